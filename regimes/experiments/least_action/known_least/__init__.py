"""Clouds whose least objective, risk + transport/λ, is known exactly, and nets that are trained on them."""
