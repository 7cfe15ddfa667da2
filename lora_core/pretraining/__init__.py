"""Training of a base model: the autoencoder first, then the text-conditioned UNet on its latents."""
