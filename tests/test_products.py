"""Products in one piece and in several, in float32 and with rounded operands, against NumPy's."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import drawn
from collectiverl.nn.products import LEAST, operands_in, product

ROWS, LEFT, RIGHT, COLUMNS = LEAST + 1, LEAST, 5, LEAST + 2
X, Y, WEIGHT, GRAD = (
    drawn.normal(*shape, seed=seed)
    for seed, shape in enumerate([(ROWS, LEFT), (ROWS, RIGHT), (LEFT + RIGHT, COLUMNS), (ROWS, COLUMNS)])
)


def in_numpy(x, weight):
    """The product in double precision."""
    return x.astype(np.float64) @ weight.astype(np.float64)


def rounded(x):
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def ours(precision, *arrays):
    """The product, and the gradients of parts and weights where `GRAD` comes back."""

    @jax.jit
    def value_and_gradients(*arrays):
        with operands_in(precision):
            value, back = jax.vjp(lambda *args: product(args[:-1], args[-1]), *arrays)
            return value, *back(jnp.asarray(GRAD))

    return value_and_gradients(*arrays)


def close(mine, other):
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_product_and_its_gradients_are_numpys_of_operands_of_that_precision(precision):
    cast = rounded if precision == "bfloat16" else np.asarray
    value, to_x, to_y, to_weight = ours(precision, X, Y, WEIGHT)
    x, weight, grad = cast(np.hstack([X, Y])), cast(WEIGHT), cast(GRAD)
    close(value, in_numpy(x, weight))
    close(np.hstack([to_x, to_y]), in_numpy(grad, weight.T))
    close(to_weight, in_numpy(x.T, grad))
    assert {leaf.dtype for leaf in (value, to_x, to_y, to_weight)} == {np.dtype(np.float32)}


def test_rounding_shows():
    assert not np.allclose(
        in_numpy(X, WEIGHT[:LEFT]), in_numpy(rounded(X), rounded(WEIGHT[:LEFT])), atol=1e-2
    )


def test_the_product_of_few_inputs_is_exact_and_its_weights_gradient_rounded():
    value, to_y, to_weight = ours("bfloat16", Y, WEIGHT[-RIGHT:])
    close(value, in_numpy(Y, WEIGHT[-RIGHT:]))
    close(to_y, in_numpy(GRAD, WEIGHT[-RIGHT:].T))
    close(to_weight, in_numpy(rounded(Y).T, rounded(GRAD)))


def test_few_rows_are_exact_so_that_acting_does_not_depend_on_the_precision():
    few, weight = jnp.asarray(X[: LEAST - 1]), jnp.asarray(WEIGHT[:LEFT])
    with operands_in("bfloat16"):
        np.testing.assert_array_equal(product([few], weight), few @ weight)


def test_the_precision_is_that_of_the_block_alone():
    x, weight = jnp.asarray(X), jnp.asarray(WEIGHT[:LEFT])
    exact = product([x], weight)
    with operands_in("bfloat16"), operands_in("float32"):
        np.testing.assert_array_equal(product([x], weight), exact)
    np.testing.assert_array_equal(product([x], weight), exact)


def test_members_of_an_ensemble_have_the_products_that_each_has_alone():
    weights = jnp.stack([WEIGHT, 2 * WEIGHT[::-1]])

    @jax.jit
    def together(x, y, weights):
        with operands_in("bfloat16"):
            return jax.vmap(jax.grad(lambda w: jnp.sum(GRAD * product([x, y], w))))(weights)

    for mine, weight in zip(together(X, Y, weights), weights, strict=True):
        close(mine, ours("bfloat16", X, Y, weight)[-1])
