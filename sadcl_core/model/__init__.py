"""The network: backbone, head, projection, prototypes and memory bank."""
