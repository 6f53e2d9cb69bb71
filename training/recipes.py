"""Training recipes: functions that each return one complete, checked config."""

from collections.abc import Callable
from dataclasses import replace

from encoders.video_encoder.config import AIM_PRESETS, PRESETS, FrameTemporalConfig
from training.configs import AugmentConfig, LoopConfig, Stage1Config, Stage2Config


def demo_actions() -> Stage1Config:
    """Stage 1 of the demo: the temporal part of a frame-temporal encoder on cached frame vectors."""
    return Stage1Config(
        encoder=PRESETS["frame_temporal_small"],
        pretrained_image="pose_image_small",
        loop=LoopConfig(
            num_epochs=20,
            batch_size=32,
            learning_rate=1e-3,
            weight_decay=0.05,
            betas=(0.9, 0.98),
            num_warmup_steps=100,
            grad_clip_norm=1.0,
            eval_every=2,
        ),
        label_smoothing=0.1,
    )


def demo_actions_tiny() -> Stage1Config:
    """The same steps in seconds, for tests; its scores are meaningless."""
    recipe = demo_actions()
    return replace(
        recipe,
        encoder=FrameTemporalConfig(num_frames=8, embedding_dim=64, depth=1),
        pretrained_image=None,
        num_cached_positions=12,
        loop=replace(recipe.loop, num_epochs=3, batch_size=16, num_warmup_steps=5, eval_every=1),
    )


def demo_actions_factored() -> Stage1Config:
    """The same with class directions that are sums over attributes, for edits that reach classes and counts never shown."""
    return replace(demo_actions(), head="factors", label_smoothing=0.0)


def demo_actions_aim() -> Stage1Config:
    """The same dives for a small AIM; set `pretrained_image` to a folder of `benchmarks.pretraining.vit`, which AIM then freezes."""
    recipe = demo_actions()
    return replace(
        recipe,
        encoder=PRESETS["aim_tiny"],
        pretrained_image=None,
        loop=replace(recipe.loop, num_epochs=50, learning_rate=2e-3),
    )


def demo_actions_aim_tiny() -> Stage1Config:
    """The same steps in seconds, for tests; its scores are meaningless."""
    recipe = demo_actions_aim()
    return replace(
        recipe,
        encoder=replace(AIM_PRESETS["aim_tiny"], num_frames=4),
        loop=replace(recipe.loop, num_epochs=2, batch_size=16, num_warmup_steps=5),
    )


def demo_fusion() -> Stage2Config:
    """Stage 2 of the demo: a small Combiner; batch neighbours of the target's class are not negatives."""
    return Stage2Config(
        loop=LoopConfig(
            num_epochs=12,
            batch_size=256,
            learning_rate=5e-4,
            weight_decay=0.05,
            num_warmup_steps=50,
            grad_clip_norm=1.0,
            eval_every=2,
        ),
        projection_dim=512,
        hidden_dim=1024,
        dropout=0.3,
        mask_same_label=True,
    )


def demo_fusion_tiny() -> Stage2Config:
    """The same steps in seconds, for tests; its scores are meaningless."""
    recipe = demo_fusion()
    return replace(
        recipe,
        projection_dim=64,
        hidden_dim=128,
        max_val_queries=64,
        loop=replace(recipe.loop, num_epochs=3, batch_size=32, num_warmup_steps=5, eval_every=1),
    )


def demo_fusion_factored() -> Stage2Config:
    """Stage 2 of the demo by factors: edits act on attributes, so that label pairs and numbers that no triplet shows are composed too."""
    recipe = demo_fusion()
    return replace(
        recipe,
        fusion="factored",
        counts=True,
        max_tokens=64,
        num_free_texts=20_000,
        projection_dim=256,
        hidden_dim=512,
        loop=replace(
            recipe.loop, num_epochs=18, batch_size=128, learning_rate=3e-3, num_warmup_steps=100
        ),
    )


def aim_vit_b16_finegd() -> Stage1Config:
    """Stage 1 of the paper: AIM on frozen CLIP ViT-B/16, 12 frames of 224 x 224, AIM's published recipe for Diving48.

    Frames are resized to 256 x 256, a random crop of 8 to 100 % of the area and 3:4 to 4:3 is resized to 224 x 224 and
    mirrored half of the time. On small GPUs: `--config.loop.num-accumulation-steps 8 --config.recompute-activations`; for rare
    labels: `--config.order label_balanced`.
    """
    return Stage1Config(
        encoder=PRESETS["aim_vit_b16"],
        pretrained_image="openai/clip-vit-base-patch16",
        loop=LoopConfig(
            num_epochs=50,
            batch_size=64,
            learning_rate=3e-4,
            weight_decay=0.05,
            num_warmup_steps=500,
        ),
        loss="smoothed_cross_entropy",
        augment=AugmentConfig(flip=True, min_crop_scale=0.08, decode_size=256),
        num_decode_threads=8,
    )


def tfcovr_released_actions() -> Stage1Config:
    """Stage 1 as TF-CoVR's code trains it: all weights of AIM, no frozen CLIP, and every frame of a clip augmented apart.

    Its learning rate, epochs, decay, drop path and batch are those of its code and example command; frames are resized to
    256 x 256 before the crop, where its code crops them at their own size.
    """
    paper = aim_vit_b16_finegd()
    return replace(
        paper,
        encoder=replace(AIM_PRESETS["aim_vit_b16"], drop_path=0.1),
        freeze_pretrained=False,
        loop=replace(
            paper.loop, num_epochs=100, batch_size=512, learning_rate=1e-5, num_warmup_steps=0,
            decay="all", schedule="epoch", precision="fp32", keep="best",
        ),
        augment=replace(
            paper.augment, min_crop_scale=0.5, rand_augment=(2, 5), per_frame=True
        ),
    )  # fmt: skip


def tfcovr_base() -> Stage2Config:
    """Stage 2 of the paper: Q-Former text branch and Combiner train together, every batch neighbour is a negative.

    The published formulas on unit vectors; `tfcovr_released` is what the released code does instead.

    Other text branches: `--config.text openai/clip-vit-base-patch16 --config.no-train-text` (frozen CLIP), or
    `--config.text packaged:all-MiniLM-L6-v2`, which needs no download. The paper does not give the number of epochs.
    """
    return Stage2Config(
        loop=LoopConfig(
            num_epochs=50, batch_size=512, learning_rate=1e-5, weight_decay=0.05, keep="best"
        ),
        text="Salesforce/blip2-itm-vit-g",
        train_text=True,
        released_words=True,
        projection_dim=3072,
        hidden_dim=6144,
        dropout=0.5,
        loss="hn_nce",
        temperature=0.07,
        alpha=1.0,
        beta=0.5,
        max_val_queries=5000,
    )


def tfcovr_released() -> Stage2Config:
    """Stage 2 exactly as TF-CoVR's code trains it: clip vectors with their length, its loss, weight decay, schedule and validation.

    Its default of 5 epochs; the README's example has 100 (`--config.loop.num-epochs 100`). The best epoch is chosen by the released
    protocol on all val queries. On a CPU: `--config.loop.precision fp32`.
    """
    paper = tfcovr_base()
    return replace(
        paper,
        loop=replace(
            paper.loop, num_epochs=5, decay="all", schedule="epoch", precision="fp16", keep="best"
        ),
        keeps_length=True,
        loss="hn_nce_released",
        val_protocol="tfcovr-release",
        max_val_queries=10**9,
    )


RECIPES: dict[str, Callable[[], Stage1Config | Stage2Config]] = {
    recipe.__name__: recipe
    for recipe in (
        demo_actions,
        demo_actions_tiny,
        demo_actions_factored,
        demo_actions_aim,
        demo_actions_aim_tiny,
        demo_fusion,
        demo_fusion_tiny,
        demo_fusion_factored,
        aim_vit_b16_finegd,
        tfcovr_released_actions,
        tfcovr_base,
        tfcovr_released,
    )
}
