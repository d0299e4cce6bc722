"""Turn a thresholded probability into nodes: rules, measurements and scores."""
