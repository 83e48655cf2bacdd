"""Fields of every config, at neutral values; each config of a system sets its own.

A config names encoders and losses; `model_options` and `loss_options` hold the options of all of
them, of which only those of the named ones are read. A saved config that lacks a field is read with
its value here (`vmr.training.config.completed`): a new field starts as the code did without it.
"""

from ml_collections import ConfigDict, config_dict


def base_config() -> ConfigDict:
    """Config with every field but the names and weights of the losses."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # folder of a run or a model that it starts from
    config.batch_size = 500  # pairs, global
    config.microbatch = 0  # pairs that pass the encoders at a time, globally; 0: the whole batch
    config.steps = 1000  # at most; a step is one batch
    config.log_every = 50  # steps
    config.eval_every = 50  # steps, on the validation split
    config.checkpoint_every = 50  # steps; the best state since then is saved with it
    config.evals = ("recalls",)  # at each validation; also: geometry, hubness
    config.selection = "v2m/R@10"  # the validation metric that chooses the best checkpoint
    config.patience = 0  # validations without a better one before an early stop; 0: never

    config.dataset = ConfigDict()
    config.dataset.name = ""  # checked against the folder's where given
    config.dataset.data_dir = config_dict.placeholder(str)
    config.dataset.allow_invalid = False  # train although the validation report has errors
    config.dataset.train_share = 1.0  # of the training pairs, a fixed sample by hash of their ids
    # Memory that holds the pairs between batches: auto | device | host | none (read for each).
    config.dataset.cache = "auto"

    # What goes together: a video and its music; or `video` or `music`, an item with itself (two
    # samples of its sequence, one encoder). Positives: pairs of one track, or of one label.
    config.pairing = "video_music"
    config.positives = "track"
    config.sampling = ConfigDict()
    config.sampling.method = "mean"  # of a sequence; or clips: global_sparse, contiguous
    config.sampling.clips = 32  # N, of each sequence; not read, and not to be set, under mean

    config.augment = ConfigDict()  # of the standardised inputs, in training
    config.augment.noise = 0.0  # standard deviation of Gaussian noise added; 0: none
    config.augment.mixup = 0.0  # alpha of Beta, of pairs mixed with other pairs; 0: none

    config.model = model_options()
    config.loss = loss_options()

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "constant"  # or cosine, to 0 at the last step
    config.optimizer.warmup_steps = 0  # over which the learning rate rises from 0, either schedule
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.epsilon = 1e-8
    config.optimizer.weight_decay = 0.0  # decoupled, of the kernels, times the learning rate
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0: no clipping
    config.optimizer.average_decay = 0.0  # of the averaged parameters, then evaluated; 0: none
    return config


def model_options() -> ConfigDict:
    """Fields of `config.model`: the encoder of each modality, and options of every kind."""
    model = ConfigDict()
    model.embedding_width = 512
    model.dropout = 0.1  # rate, after each hidden layer or within each block
    model.input_dropout = 0.0  # rate, on the inputs
    # branch | transformer | gated_conv; `hidden`: widths of a branch's hidden layers.
    model.video = {"encoder": "branch", "hidden": (2048,)}
    model.music = {"encoder": "branch", "hidden": (2048, 1024)}
    # Of a branch: VM-NET's, but for the residual.
    model.linear = False  # leaves every ReLU out
    model.residual = False  # adds a learnt linear map of the input to the last layer
    model.batch_norm = {"decay": 0.99, "epsilon": 1e-3}
    model.transformer = {
        "model_width": 256,
        "layers": 2,
        "heads": 4,
        "mlp_ratio": 4,  # hidden width of the MLP in widths of the model
        "positions": "learned",  # | sinusoidal | none
        "max_clips": 64,  # at most, of learned positions
        "pooling": "mean",  # | attention | cls
    }
    model.gated_conv = {"model_width": 256, "layers": 4, "kernel": 5, "pooling": "mean"}
    # Text that comes with the video: none | gated_sum | tokens (of a transformer).
    model.text = {
        "fusion": "none",
        "tokens": 32,  # L, words or embeddings that are read of a text
        "vocabulary": 16384,  # buckets that words are hashed into
        "embedding_width": 0,  # E, where the dataset has embeddings of text; 0: words
        "width": 256,  # of a token's vector in a gated sum
        "dropout": 0.3,  # rate of tokens hidden in training
    }
    return model


def loss_options() -> ConfigDict:
    """Fields of `config.loss` without the names and weights of the losses."""
    loss = ConfigDict()
    # Between the modalities. `learnt`: training starts from the option and moves it; a temperature
    # that is learnt stays at 0.01 or more.
    loss.ranking = {"margin": 0.1, "top_k": 100}
    loss.infonce = {
        "temperature": 0.07,
        "label_smoothing": 0.0,
        "hardness": 0.0,  # beta of the negatives' weights exp(beta s / temperature); 0: all alike
        "learnt": False,
    }
    loss.siglip = {"scale": 10.0, "bias": -10.0, "learnt": True}
    loss.crossclr = {
        "temperature": 0.03,
        "negative_weight": 0.8,  # of negatives from the anchors' own modality
        "threshold": 0.7,  # share of the largest connectivity beyond which an item is spared
        "weight_temperature": 0.0035,  # of the anchors' weights by connectivity
        "learnt": False,
    }
    loss.distillation = {
        "temperature": 0.07,
        "teacher_temperature": 0.07,  # of the teacher's scores
        "share": 0.5,  # of the teacher in the target
        "learnt": False,
    }
    # npz of a teacher's embeddings of the training split, for `distillation`; as
    # `experiments.export --split=train --output=FILE.npz` writes it.
    loss.teacher = ""

    # Within a modality. `structure`, `ii_mse`, `gram` and `rkd_distance` have no options.
    loss.structure_adjacent = {"top_k": 100}
    loss.ii_kl = {"temperature": 0.07}
    loss.js = {"temperature": 0.07}  # published with weights of 10 and 500 steps of warm-up
    loss.warmup_steps = 0  # over which the weights of music and video rise from 0

    loss.block_rows = 0  # anchors at a time, for bounded memory; 0: the loss's own choice
    loss.similarity_dtype = "float32"  # of the factors of infonce's products; or bfloat16
    return loss
