"""Checks for the exercises of chapter 09: the two distillation losses, pooling, and 8-bit weights."""

from __future__ import annotations

import numpy as np

from xlbook.exercises import Wrong


def close(received, expected) -> bool:
    """Return whether two arrays have the same shape and nearly the same numbers."""
    received, expected = np.asarray(received, float), np.asarray(expected, float)
    return received.shape == expected.shape and bool(np.allclose(received, expected, atol=1e-4))


def exercise_1(answer) -> None:
    """A function (teacher, english, foreign) -> MSE(T(s), S(s)) + MSE(T(s), S(t)), arrays (B, D) in, a number out."""
    teacher = np.array([[1.0, 0.0], [0.0, 1.0]])
    english = np.array([[1.0, 0.5], [0.0, 1.0]])
    foreign = np.array([[0.0, 1.0], [0.0, 2.0]])
    received = answer(teacher.copy(), english.copy(), foreign.copy())
    if np.ndim(received) != 0:
        raise Wrong("not-one-number", "A loss is one number: average over texts and dimensions.")
    if close(received, 0.0625):
        raise Wrong("no-target-sentence", "The translation never occurs in your loss, so nothing is learned about it.")
    if close(received, 0.75):
        raise Wrong("no-english-term", "The English side is free to move. The teacher must hold it, too.")
    pulled = ((english - foreign) ** 2).mean()
    if close(received, pulled) or close(received, 0.0625 + pulled):
        raise Wrong(
            "student-compared-with-itself",
            "You compare S(t) with S(s). Both must be compared with the teacher; a student that says the same about "
            "every text would satisfy yours.",
        )
    if close(received, (0.0625 + 0.75) / 2):
        raise Wrong("average-of-the-terms", "You averaged the two terms; the paper adds them.")
    if close(received, 2 * (0.0625 + 0.75)) or close(received, 4 * (0.0625 + 0.75)):
        raise Wrong("sum-instead-of-mean", "Average over texts and dimensions, or the loss grows with the batch.")
    if not close(received, 0.8125):
        raise Wrong("other", f"The answer is 0.8125; received {float(received):.4f}.")


def exercise_2(answer) -> None:
    """A function (student, teacher, temperature) -> T² · KL(teacher ‖ student), logits (B, C) in, a number out."""
    student, teacher, t = (
        np.array([[0.0, 1.0, -1.0], [0.5, 0.0, 0.0]]),
        np.array([[3.0, 0.0, 0.5], [1.0, 2.0, 0.0]]),
        2.0,
    )

    def softmax(z):
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def kl(p, q):
        return float((p * np.log(p / q)).sum(axis=-1).mean())

    p, q = softmax(teacher / t), softmax(student / t)
    received = answer(student.copy(), teacher.copy(), t)
    if np.ndim(received) != 0:
        raise Wrong("not-one-number", "Sum over the classes, average over the texts.")
    if close(received, kl(p, q)):
        raise Wrong("no-t-squared", "The softened gradients are T² times smaller. Multiply by T².")
    if close(received, t**2 * kl(q, p)) or close(received, kl(q, p)):
        raise Wrong("direction-swapped", "That is KL(student ‖ teacher). The teacher's probabilities are the weights.")
    if close(received, t**2 * kl(p, softmax(student))) or close(received, t**2 * kl(softmax(teacher), q)):
        raise Wrong("one-side-softened", "Both distributions are softened, or an equal student would be punished.")
    if close(received, t**2 * kl(softmax(teacher * t), softmax(student * t))):
        raise Wrong("sharpened", "You multiplied by T. Dividing softens.")
    hard = -np.log(softmax(student))[np.arange(2), teacher.argmax(axis=-1)].mean()
    if close(received, hard):
        raise Wrong("labels-instead-of-answers", "You kept only the teacher's best class. The rest is what it knows.")
    if not close(received, t**2 * kl(p, q)):
        raise Wrong("other", f"Expected {t**2 * kl(p, q):.4f}; received {float(received):.4f}.")
    if abs(float(answer(teacher.copy(), teacher.copy(), 3.0))) > 1e-6:
        raise Wrong("other", "A student that equals the teacher has no loss.")


def exercise_3(answer) -> None:
    """A function (states, mask, before) -> mean of each text's own tokens: (B, L, D), (B, L), number -> (B, D)."""
    states = np.array([[[9.0], [5.0], [1.0], [2.0], [7.0]], [[9.0], [5.0], [4.0], [7.0], [100.0]]])
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    received = np.asarray(answer(states.copy(), mask.copy(), 1), float)
    if received.shape != (2, 1):
        raise Wrong("wrong-shape", f"One vector a text is needed, shape (2, 1); received {received.shape}.")
    if close(received, [[24 / 5], [25 / 4]]):
        raise Wrong("special-tokens-pooled", "The first and the last token and the prefix are no part of the text.")
    if close(received, [[24 / 5], [25.0]]):
        raise Wrong("padding-pooled", "Where the mask is 0 there is no token.")
    if close(received, [[8 / 3], [9 / 2]]):
        raise Wrong("prefix-pooled", "The tokens of the prefix are the same in every text: leave `before` of them out.")
    if any(close(received, [[first], [second]]) for first, second in ((10 / 3, 16 / 3), (10 / 3, 11 / 2), (1.5, 5.5))):
        raise Wrong("end-token-pooled", "The last real token closes the text. In a padded row it is not at the end.")
    if close(received, [[3.0], [4.0]]):
        raise Wrong("sum-instead-of-mean", "Long texts would get long vectors. Divide by the number of tokens.")
    if not close(received, [[1.5], [4.0]]):
        raise Wrong("other", f"Expected [[1.5], [4.0]]; received {received.tolist()}.")


def exercise_4(answer) -> None:
    """A function (weights) -> (int8 array, scales (rows, 1)): symmetric, one scale a row."""
    weights = np.array([[0.639, -1.27, 0.0], [0.0127, 0.0026, -0.0127]])
    received = answer(weights.copy())
    if not isinstance(received, tuple) or len(received) != 2:
        raise Wrong("not-a-pair", "Return the integers and the scales.")
    integers, scale = (np.asarray(part) for part in received)
    if scale.size == 1:
        raise Wrong(
            "one-scale-for-all", "The second row is a hundred times smaller and is lost. Give each row a scale."
        )
    if integers.shape != weights.shape or scale.shape != (2, 1):
        raise Wrong(
            "wrong-shape",
            "Integers of shape (2, 3) and scales of shape (2, 1) are needed: their product is near the weights; "
            f"received {integers.shape} and {scale.shape}.",
        )
    if not np.issubdtype(integers.dtype, np.integer):
        raise Wrong("still-floating", "Rounded floats take as much space as before: convert to int8.")
    if integers.astype(int).min() >= 0:
        raise Wrong("unsigned", "Weights are negative, too: use -127 to 127.")
    top, width = weights.max(axis=1, keepdims=True), np.ptp(weights, axis=1, keepdims=True)
    if close(scale, top / 127):
        raise Wrong("sign-not-ignored", "The weight that is farthest from zero may be negative. Look at sizes.")
    if close(scale, width / 255) or close(scale, width / 254):
        raise Wrong("not-symmetric", "Largest minus smallest is for integers that start anywhere. Here 0 stays 0.")
    if close(integers, weights.astype(np.int8)):
        raise Wrong("not-divided", "These weights are all near zero as integers. Divide by the scale first.")
    expected = np.array([[64, -127, 0], [127, 26, -127]])
    if close(integers, [[63, -127, 0], [127, 26, -127]]) or close(integers, [[63, -127, 0], [127, 25, -127]]):
        raise Wrong("cut-off-instead-of-rounded", "Converting to int8 cuts the fraction off. Round first.")
    if integers[1, 0] < 0 or np.abs(integers.astype(int)).max() > 127:
        raise Wrong("overflow", "128 does not fit into int8 and comes back as -128. Divide by 127.")
    if not close(integers, expected) or not close(integers * scale, expected * np.array([[0.01], [0.0001]])):
        raise Wrong(
            "other", f"Expected {expected.tolist()}; received {integers.tolist()} with scales {scale.tolist()}."
        )
