"""The built-in parts of reprkit, registered as a plugin that contains only strings."""

from __future__ import annotations

from collections.abc import Iterator

from reprkit.registry.hookspecs import Spec, hookimpl


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """The built-in encoders."""
    yield Spec(
        "flat",
        "reprkit.encoders.flat:FlatEncoder",
        "The flattened example, without a layer: the core's adapter is the encoder (Baldi and Hornik 1989)",
    )
    yield Spec("mlp", "reprkit.encoders.mlp:MLPEncoder", "Fully connected layers; one token per example")
    yield Spec(
        "conv",
        "reprkit.encoders.conv:ConvEncoder",
        "Strided residual convolutions over images (He et al. 2016)",
    )
    yield Spec(
        "vit",
        "reprkit.encoders.vit:ViTEncoder",
        "Vision transformer; reads only the patches to keep (Dosovitskiy et al. 2021)",
    )
    yield Spec(
        "gru", "reprkit.encoders.gru:GRUEncoder", "Gated recurrent network over sequences (Cho et al. 2014)"
    )
    yield Spec(
        "transformer",
        "reprkit.encoders.transformer:TransformerEncoder",
        "Transformer over sequences (Vaswani et al. 2017)",
    )


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """The built-in decoders."""
    yield Spec(
        "flat",
        "reprkit.decoders.flat:FlatDecoder",
        "The code itself, without a layer: the core's adapter is the decoder (Baldi and Hornik 1989)",
    )
    yield Spec(
        "mirror",
        "reprkit.decoders.mirror:MirrorDecoder",
        "The encoder's linear maps transposed, with tied weights (Vincent et al. 2010)",
    )
    yield Spec("mlp", "reprkit.decoders.mlp:MLPDecoder", "Fully connected layers")
    yield Spec(
        "conv",
        "reprkit.decoders.conv:ConvDecoder",
        "Upsampling residual convolutions to images (He et al. 2016)",
    )
    yield Spec(
        "vit", "reprkit.decoders.vit:ViTDecoder", "Transformer from tokens to patches (He et al. 2021)"
    )
    yield Spec(
        "gru", "reprkit.decoders.gru:GRUDecoder", "Gated recurrent network over sequences (Cho et al. 2014)"
    )
    yield Spec(
        "lstm",
        "reprkit.decoders.lstm:LSTMDecoder",
        "Long short-term memory over sequences (Hochreiter and Schmidhuber 1997)",
    )
    yield Spec(
        "transformer",
        "reprkit.decoders.transformer:TransformerDecoder",
        "Transformer over sequences (Vaswani et al. 2017)",
    )


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """The built-in latents."""
    yield Spec(
        "continuous",
        "reprkit.latents.continuous:Continuous",
        "Plain real vectors, with optional sparsity (Hinton 2006; Ng 2011)",
    )
    yield Spec(
        "gaussian",
        "reprkit.latents.gaussian:Gaussian",
        "Reparameterized Gaussian with a KL term (Kingma and Welling 2014)",
    )
    yield Spec(
        "binary", "reprkit.latents.binary:Binary", "Bernoulli bits, straight-through (Bengio et al. 2013)"
    )
    yield Spec(
        "one-hot",
        "reprkit.latents.one_hot:OneHot",
        "Categorical variables, Gumbel-softmax or straight-through (Jang et al. 2017)",
    )
    yield Spec(
        "vq",
        "reprkit.latents.vq:VQ",
        "Vector quantization with a learned codebook (van den Oord et al. 2017)",
    )
    yield Spec(
        "residual-vq",
        "reprkit.latents.residual_vq:ResidualVQ",
        "Codebooks that quantize the residual of the previous one (Zeghidour et al. 2021)",
    )
    yield Spec(
        "fsq",
        "reprkit.latents.fsq:FSQ",
        "Finite scalar quantization: rounding, no codebook to learn (Mentzer et al. 2023)",
    )
    yield Spec(
        "lfq",
        "reprkit.latents.lfq:LFQ",
        "Lookup-free quantization: signs and an entropy penalty (Yu et al. 2023)",
    )
    yield Spec(
        "sim-vq",
        "reprkit.latents.sim_vq:SimVQ",
        "A codebook that one linear map moves as a whole (Zhu et al. 2024)",
    )
    yield Spec(
        "top-k",
        "reprkit.latents.top_k:TopK",
        "The k largest features, with revival of dead units (Makhzani and Frey 2013)",
    )
    yield Spec(
        "rounded",
        "reprkit.latents.rounded:Rounded",
        "Whole numbers with a learned entropy model (Ballé et al. 2018)",
    )


@hookimpl
def reprkit_likelihoods() -> Iterator[Spec]:
    """The built-in likelihoods."""
    yield Spec(
        "gaussian",
        "reprkit.likelihoods.gaussian:Gaussian",
        "Normal distribution of real values, with a learned scale (Rybkin et al. 2021)",
    )
    yield Spec(
        "bernoulli",
        "reprkit.likelihoods.bernoulli:Bernoulli",
        "Two values, 0 and 1; the cross-entropy of gray values",
    )
    yield Spec(
        "categorical",
        "reprkit.likelihoods.categorical:Categorical",
        "Symbols of a vocabulary",
    )
    yield Spec(
        "laplace",
        "reprkit.likelihoods.laplace:Laplace",
        "Absolute error, with a learned scale",
    )
    yield Spec(
        "logistic-mixture",
        "reprkit.likelihoods.logistic_mixture:LogisticMixture",
        "Discretized mixture of logistics over gray values (Salimans et al. 2017)",
    )
    yield Spec(
        "mixed",
        "reprkit.likelihoods.mixed:Mixed",
        "Columns of a table: numbers by a Gaussian with a scale each, categories by a softmax",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """The built-in objectives."""
    yield Spec(
        "reconstruction",
        "reprkit.objectives.reconstruction:Reconstruction",
        "Likelihood of the input given its code",
    )
    yield Spec(
        "denoising",
        "reprkit.objectives.denoising:Denoising",
        "Reconstruct the clean input from a corrupted one (Vincent et al. 2010)",
    )
    yield Spec(
        "masked",
        "reprkit.objectives.masked:Masked",
        "Predict masked tokens from the visible ones (He et al. 2021)",
    )
    yield Spec(
        "contrastive",
        "reprkit.objectives.contrastive:Contrastive",
        "NT-Xent over two views (Chen et al. 2020)",
    )
    yield Spec(
        "across",
        "reprkit.objectives.across:Across",
        "InfoNCE between the codes of two factors (Radford et al. 2021)",
    )
    yield Spec(
        "diffusion",
        "reprkit.objectives.diffusion:Diffusion",
        "Remove noise of every strength, and generate step by step (Ho et al. 2020)",
    )
    yield Spec(
        "contractive",
        "reprkit.objectives.contractive:Contractive",
        "Penalty on the Jacobian of the code (Rifai et al. 2011)",
    )
    yield Spec(
        "rbm",
        "reprkit.objectives.rbm:RBM",
        "Restricted Boltzmann machine, by contrastive divergence (Hinton 2002)",
    )
    yield Spec(
        "classify",
        "reprkit.objectives.classify:Classify",
        "Supervised classification by one linear layer on the code",
    )
    yield Spec(
        "grouped",
        "reprkit.objectives.grouped:Grouped",
        "Reconstruct an example with a group-level factor taken from another member of its group",
    )
    yield Spec(
        "policy",
        "reprkit.objectives.policy:Policy",
        "Reconstruction as the reward of sampled codes (Williams 1992; Kool et al. 2019)",
    )
    yield Spec(
        "adversary",
        "reprkit.objectives.adversary:Adversary",
        "Adversarial classifier of a label on any code (Chou et al. 2018)",
    )
    yield Spec(
        "total-correlation",
        "reprkit.objectives.total_correlation:TotalCorrelation",
        "Penalty on the dependence of a code's dimensions (Chen et al. 2018; Kim and Mnih 2018)",
    )
    yield Spec(
        "autoregressive",
        "reprkit.objectives.autoregressive:Autoregressive",
        "Likelihood factorized token by token (Bengio et al. 2003)",
    )


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """The built-in corruptions."""
    yield Spec(
        "gaussian-noise",
        "reprkit.corruptions.gaussian_noise:GaussianNoise",
        "Adds Gaussian noise (Vincent et al. 2010)",
    )
    yield Spec(
        "salt-and-pepper",
        "reprkit.corruptions.salt_and_pepper:SaltAndPepper",
        "Sets elements to either extreme (Vincent et al. 2010)",
    )
    yield Spec(
        "mask-elements",
        "reprkit.corruptions.mask_elements:MaskElements",
        "Masks single elements (Vincent et al. 2010)",
    )
    yield Spec(
        "mask-patches",
        "reprkit.corruptions.mask_patches:MaskPatches",
        "Masks patches of an image (He et al. 2021)",
    )
    yield Spec(
        "mask-spans",
        "reprkit.corruptions.mask_spans:MaskSpans",
        "Masks spans of a sequence (Joshi et al. 2020)",
    )
    yield Spec(
        "dropout",
        "reprkit.corruptions.dropout:Dropout",
        "Zeroes elements and rescales the rest (Srivastava et al. 2014)",
    )


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """The built-in data sets."""
    yield Spec(
        "digits",
        "reprkit.data.formats.digits:Digits",
        "1,797 handwritten digits of 8 x 8 (Alpaydin and Kaynak 1998)",
        ("sklearn",),
    )
    yield Spec(
        "curves",
        "reprkit.data.formats.curves:Curves",
        "Curves through three random points, images of six degrees of freedom (Hinton and Salakhutdinov 2006)",
    )
    yield Spec(
        "shapes",
        "reprkit.data.formats.shapes:Shapes",
        "Squares, ellipses and hearts of known scale, orientation and position (after dSprites, Matthey et al. 2017)",
    )
    yield Spec(
        "arrays",
        "reprkit.data.formats.arrays:Arrays",
        "NumPy or torch arrays, from memory or .npy and .npz files",
    )
    yield Spec(
        "audio",
        "reprkit.data.formats.audio:Audio",
        "A folder of sound files as waveforms, whole or in windows",
        ("soundfile", "scipy"),
    )
    yield Spec(
        "hub",
        "reprkit.data.formats.hub:Hub",
        "A data set of the Hugging Face hub, or Parquet, CSV and JSON files (Lhoest et al. 2021)",
        ("datasets",),
    )
    yield Spec(
        "hub-stream",
        "reprkit.data.formats.hub_stream:HubStream",
        "A data set of the hub, or local files, streamed without being stored",
        ("datasets",),
    )
    yield Spec(
        "shards",
        "reprkit.data.formats.tar_stream:TarStream",
        "Tar files of records (WebDataset's layout), streamed: every process reads its part (Aizman et al. 2019)",
    )
    yield Spec(
        "codes",
        "reprkit.models.codes_dataset:CodesOf",
        "The codes of a data set under a saved model, for learning a prior",
    )
    yield Spec("images", "reprkit.data.formats.images:Images", "A folder of images of one size", ("PIL",))
    yield Spec(
        "lines",
        "reprkit.data.formats.lines:Lines",
        "Lines of text files, as bytes or characters",
        forms=("lines",),
    )
    yield Spec(
        "json-lines",
        "reprkit.data.formats.json_lines:JsonLines",
        "JSON Lines files with one record per example: texts, numbers and labels",
    )
    yield Spec(
        "table",
        "reprkit.data.formats.table:Table",
        "A table with named columns: a CSV, TSV or Parquet file, a DataFrame, a Bunch",
        ("pandas",),
    )
    yield Spec(
        "breast-cancer",
        "reprkit.data.formats.anomaly_tables:BreastCancer",
        "569 tumors, benign or malignant, by 30 numbers (Street et al. 1993)",
        ("pandas", "sklearn"),
    )
    yield Spec(
        "credit-card",
        "reprkit.data.formats.anomaly_tables:CreditCard",
        "Transactions by credit card, genuine or fraud, from Kaggle's creditcard.csv (Dal Pozzolo et al. 2015)",
        ("pandas",),
    )
    yield Spec(
        "kdd99",
        "reprkit.data.formats.anomaly_tables:KDDCup99",
        "Connections in a network, normal or attacks, from a file of the KDD Cup 1999 or of NSL-KDD",
        ("pandas",),
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """The built-in evaluators."""
    yield Spec(
        "reconstruction",
        "reprkit.evaluation.reconstruction:ReconstructionError",
        "Squared error and likelihood of the output",
    )
    yield Spec(
        "linear-probe",
        "reprkit.evaluation.linear_probe:LinearProbe",
        "Logistic regression on frozen codes (Alain and Bengio 2016)",
        ("sklearn",),
    )
    yield Spec(
        "mlp-probe",
        "reprkit.evaluation.mlp_probe:MLPProbe",
        "A classifier of one hidden layer on frozen codes, for what is not linear (Pimentel et al. 2020)",
        ("sklearn",),
    )
    yield Spec("knn", "reprkit.evaluation.knn:KNN", "Nearest neighbors among frozen codes (Wu et al. 2018)")
    yield Spec(
        "rankme",
        "reprkit.evaluation.rankme:RankMe",
        "Effective rank of the representation, without labels (Garrido et al. 2023)",
    )
    yield Spec(
        "finetune",
        "reprkit.evaluation.finetune:FineTune",
        "Fine-tuning of the encoder with labels (He et al. 2021)",
    )
    yield Spec(
        "few-labels",
        "reprkit.evaluation.few_labels:FewLabels",
        "k-NN, linear probe and fine-tuning as functions of the number of labels",
        ("sklearn",),
    )
    yield Spec(
        "masking",
        "reprkit.evaluation.masking:Masking",
        "Prediction error where the input was masked (He et al. 2021)",
    )
    yield Spec(
        "codebook",
        "reprkit.evaluation.codebook:Codebook",
        "Perplexity, dead codes and usage of discrete latents",
    )
    yield Spec(
        "jacobian",
        "reprkit.evaluation.jacobian:Jacobian",
        "Singular values of the Jacobian, and the effective local dimension (Rifai et al. 2011)",
    )
    yield Spec(
        "sparsity",
        "reprkit.evaluation.sparsity:Sparsity",
        "Share of active units, Hoyer's sparsity, dead units (Hoyer 2004)",
    )
    yield Spec(
        "manifold",
        "reprkit.evaluation.manifold:Manifold",
        "Trustworthiness, continuity and local dimension of the code (Venna and Kaski 2001)",
        ("sklearn",),
    )
    yield Spec(
        "disentanglement",
        "reprkit.evaluation.disentanglement:Disentanglement",
        "MIG, SAP, DCI, FactorVAE score and IRS (Locatello et al. 2019)",
        ("sklearn",),
    )
    yield Spec(
        "criteria",
        "reprkit.evaluation.criteria:Criteria",
        "Compact, explanatory, disentangled, interpretable, easy: one number each; RankMe, alpha-ReQ, LiDAR",
        ("sklearn",),
    )
    yield Spec(
        "layers",
        "reprkit.evaluation.layers:Layers",
        "A probe, RankMe and a map of each layer, and CKA between layers (Kornblith et al. 2019)",
        ("sklearn",),
    )
    yield Spec(
        "units",
        "reprkit.evaluation.units:Units",
        "The examples that activate each unit of the code most, drawn (Erhan et al. 2009)",
    )
    yield Spec(
        "retrieval",
        "reprkit.evaluation.retrieval:Retrieval",
        "Recall at k and median rank between the codes of two factors",
        ("sklearn",),
    )
    yield Spec(
        "anomaly",
        "reprkit.evaluation.anomaly:Anomaly",
        "Detection of anomalies by likelihood, error, or distance in the code",
        ("sklearn",),
    )
    yield Spec(
        "rate",
        "reprkit.evaluation.rate:Rate",
        "Size of discrete codes in bits, under their tables and as bytes",
    )
    yield Spec(
        "likelihood",
        "reprkit.evaluation.likelihood:Likelihood",
        "Likelihood of held-out data, by importance sampling (Burda et al. 2016)",
    )
    yield Spec(
        "samples",
        "reprkit.evaluation.samples:Samples",
        "Samples from the prior, and whether they copy the training data",
    )
    yield Spec(
        "interpolation",
        "reprkit.evaluation.interpolation:Interpolation",
        "Outputs along the line between two examples' codes",
    )
    yield Spec(
        "projection",
        "reprkit.evaluation.projection:Projection",
        "PCA and t-SNE of the codes (van der Maaten and Hinton 2008)",
        ("sklearn",),
    )
