"""A model: how it is built of parts, its factors, scoring, sampling, likelihoods, usage and priors."""
