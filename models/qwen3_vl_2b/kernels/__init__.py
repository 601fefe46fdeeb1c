"""What only this model needs of its kernels."""
