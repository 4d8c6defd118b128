"""The loss around the weights of a network: lines, planes and sharpness."""
