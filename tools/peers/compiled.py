"""What every contender in JAX is timed as: one compiled program, its arguments on the device."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tools.paired import Prepared
from vmr.losses.pairs import Pairs

Array = jax.Array

# Pairs -> the loss () and its gradient at the embeddings, by modality
ValueAndGradient = Callable[[Pairs], tuple[Array, dict[str, Array]]]


def differentiated(loss: Callable[[Pairs], Array], sides: tuple[str, ...]) -> ValueAndGradient:
    """The loss and, by autodiff, its gradient at the embeddings of these modalities."""

    def found(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
        embeddings = {side: pairs.embeddings(side) for side in sides}
        return jax.value_and_grad(lambda changed: loss(pairs._replace(**changed)))(embeddings)

    return found


def prepared(transformed: Any, *arguments: Any, **facts: str) -> Prepared:
    """A jitted or pmapped function, compiled; its facts are its temporary memory and its value."""
    compiled = transformed.lower(*arguments).compile()
    memory = compiled.memory_analysis()  # None on backends that do not tell
    megabytes = f"{memory.temp_size_in_bytes / 1e6:.1f} MB" if memory else "?"

    def step() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    loss = f"{np.mean(step()[0]):.6g}"
    return Prepared(step, {"memory": megabytes, "loss": loss, **facts})


def errors(found: tuple[Any, Any], exact: tuple[Any, Any]) -> Mapping[str, str]:
    """Of a value, relative; of a gradient, its largest over the largest entry of the exact one."""
    (value, gradient), (exact_value, exact_gradient) = jax.device_get((found, exact))
    error, largest = (
        max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(tree))
        for tree in (jax.tree.map(np.subtract, gradient, exact_gradient), exact_gradient)
    )
    return {
        "value off by": f"{abs(value / exact_value - 1):.1e}",
        "gradient off by": f"{error / largest:.1e}",
    }
