"""Render evaluation protocols."""

from __future__ import annotations

from headstart.messages.numbers import pluralize
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, SplitSource

__all__ = ["measured_on", "protocol_name"]


def protocol_name(setup: EvaluationSetup) -> str:
    """Return the protocol in standard terms, e.g. `5-fold cross-validation` or `test split (20 % held out)`."""
    match setup.protocol:
        case EvaluationProtocol.RESUBSTITUTION:
            return "resubstitution"
        case EvaluationProtocol.LEAVE_ONE_OUT:
            return "leave-one-out"
        case EvaluationProtocol.LEAVE_ONE_GROUP_OUT:
            return "leave-one-group-out"
        case EvaluationProtocol.K_FOLD:
            name = f"{setup.num_folds}-fold cross-validation" if setup.num_folds else "cross-validation"
            used = setup.num_folds_used
            return name if used is None else f"{name}, {pluralize(used, 'fold')} scored"
        case EvaluationProtocol.VALIDATION_SPLIT:
            return f"validation split{_details(setup)}"
        case EvaluationProtocol.TEST_SPLIT:
            return f"test split{_details(setup)}"


def measured_on(setup: EvaluationSetup, num_samples: int) -> str:
    """Return the scored images and protocol, to follow "Measured on".

    Args:
        setup: Evaluation setup.
        num_samples: Number of scored samples.
    """
    count = pluralize(num_samples, "image")
    match setup.protocol:
        case EvaluationProtocol.RESUBSTITUTION:
            return f"the {count} that the model was trained on (resubstitution)"
        case EvaluationProtocol.LEAVE_ONE_OUT:
            return f"{count}, each predicted by a model that was not trained on it (leave-one-out)"
        case EvaluationProtocol.LEAVE_ONE_GROUP_OUT:
            return f"{count}, each predicted by a model that was not trained on its group (leave-one-group-out)"
        case EvaluationProtocol.K_FOLD:
            return f"{count}, each predicted by a model that was not trained on it ({protocol_name(setup)})"
        case _:
            use = "also used for model selection" if setup.is_used_for_selection else "not used for model selection"
            return f"{count}, {protocol_name(setup)}, {use}"


def _details(setup: EvaluationSetup) -> str:
    details = []
    if setup.split_source is SplitSource.USER:
        details.append("yours")
    if setup.held_out_fraction is not None:
        details.append(f"{100 * setup.held_out_fraction:.0f} % held out")
    if setup.includes_leaks:
        details.append("leaks included")
    return f" ({', '.join(details)})" if details else ""
