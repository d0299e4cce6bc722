"""From a thresholded probability to nodes: rules, measurements, scores."""
