"""DINOv3's vision transformers (Siméoni et al., 2025) as dense features."""

from __future__ import annotations

from fss_lab.backbones.patch_tokens import PatchTokens


class Dinov3Features(PatchTokens):
    """DINOv3 without its four register tokens: 640 x 640 pixels, for the paper's grid of 40 x 40 patches."""

    title = "DINOv3"
    prefix = "DINOv3ViT"
    sizes = {
        "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
        "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
        "large": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 24},
    }
    settings = {"patch_size": 16, "num_register_tokens": 4}
