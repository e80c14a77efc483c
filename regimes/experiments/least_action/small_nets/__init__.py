"""Small dense residual nets on few images, trained by least action, plainly, and with its λ but no transport."""
