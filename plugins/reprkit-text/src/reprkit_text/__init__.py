"""Text for reprkit: text as a latent, and the critics that keep it readable."""
