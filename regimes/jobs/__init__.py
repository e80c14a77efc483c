"""Jobs: what computes and reports but states nothing, so that it ends in no verdict on a theory."""
