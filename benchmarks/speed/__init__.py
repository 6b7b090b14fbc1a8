"""Speed and accuracy of what the simulators are made of, against Vidur's own."""
