"""What is measured of a prepared case so that its data set can be judged: the nodes, their places, and what is odd."""
