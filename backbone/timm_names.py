"""Names of timm's models, and their published weights."""

import difflib

import timm
from torch import Tensor


def check_name(name: str) -> None:
    """Check that timm has a model of that name.

    Raises:
        ValueError: timm has no such model or weights; the message lists similar names.
    """
    model, _, tag = name.partition(".")
    if timm.is_model(name):
        tags = [known.partition(".")[2] for known in timm.list_models(model, include_tags=True)]
        if not tag or tag in tags:
            return
        raise ValueError(f"timm's {model} has no weights called {tag!r}; known: {', '.join(filter(None, tags))}")
    known_names = timm.list_models()
    close = difflib.get_close_matches(model, known_names, n=6, cutoff=0.5)
    close += [known for known in known_names if len(model) > 2 and model in known and known not in close][:6]
    advice = f"names like it: {', '.join(close)}" if close else "timm.list_models() lists its names"
    raise ValueError(f"timm {timm.__version__} has no model {name!r}; {advice}")


def pretrained_state(name: str) -> dict[str, Tensor]:
    """Return the published weights of a model, by timm's names of tensors; timm downloads and keeps them.

    Raises:
        ValueError: unknown name, no published weights, or a download that failed.
    """
    check_name(name)
    published = timm.models.get_pretrained_cfg(name)
    if published is None or not published.has_weights:
        known = [other for other in timm.list_pretrained() if other.partition(".")[0] == name.partition(".")[0]]
        raise ValueError(
            f"timm has no pretrained weights for {name!r}{'; it has ' if known else ''}{', '.join(known)}: give a "
            "file's path as the weights, or None for scratch"
        )
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many types
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        source = f"https://huggingface.co/{published.hf_hub_id}" if published.hf_hub_id else published.url
        raise ValueError(
            f"timm can't fetch the pretrained weights of {name!r} ({reason}). On a machine with a network, "
            f"download the weights file of {source}, and give its path as the weights (--backbone.weights)."
        ) from error
