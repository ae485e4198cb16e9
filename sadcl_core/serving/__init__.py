"""A model behind HTTP: images of many clients go through the network together."""
