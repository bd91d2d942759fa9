"""Text for reprkit: tokenizers, documents, transformers' BERT, BART and T5, text as a latent, summaries."""
