"""Hostile arguments to every function of the core: a refusal or a result, never a panic, nothing half written."""

import contextlib
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_calls import checked, core, csr, framed, ids, matrix, normal, rectangle, ring
from declora import _bridge, errors

N, D = 5, 70
CODEC = _bridge.Codec("q4:block=32")
LOCAL = [3, 0, 2]
AVERAGE = _bridge.Average(np.full(N, 0.75 / N), 0.25)
BAD = np.ones(len(LOCAL), np.uint32)
COUNTS = np.arange(N, dtype=np.uint32)


def frames():
    return framed(CODEC, normal(N, D))


def sealed():
    made = frames()
    _bridge.seal_frames(made, np.full(N, 3, np.uint64), **ids(N))
    return made


def proof():
    return checked(CODEC, frames(), D)


def payload():
    return frames()[0, _bridge.HEADER_BYTES :].copy()


def grouped():
    """Two clients with two tokens and one, rank 4."""
    counts = np.array([2, 1], np.uint32)
    return {"x": normal(3, 5), "a": normal(2, 4, 5), "b": normal(2, 6, 4), "counts": counts, "scaling": 0.5}


def values():
    return {"matrix": rectangle(ring(N), LOCAL), "z": normal(N, D)}


def method(receiver, name):
    """Returns a function that calls the method `name` of its argument `receiver`."""

    def call(**arguments):
        return getattr(arguments.pop(receiver), name)(**arguments)

    return call


def spread():
    x, own = normal(len(LOCAL), D), np.array(LOCAL)
    return {"matrix": matrix(ring(N)), "z": normal(N, D), "x": x, "gamma": 1.0, "own": own}


DRAWS = {"seed": 1, "round": 2, "client": 3}
# Every function of the core with arguments that are good.
CALLS = {
    "Codec": (_bridge.Codec, lambda: {"spec": "powersgd", "shapes": [(30, 20), (7, 10)]}),
    "payload_bytes": (method("codec", "payload_bytes"), lambda: {"codec": CODEC, "n": D}),
    "error_bound": (method("codec", "error_bound"), lambda: {"codec": CODEC, "n": D}),
    "limit": (method("codec", "limit"), lambda: {"codec": CODEC, "n": D}),
    "encode": (
        method("codec", "encode"),
        lambda: {"codec": CODEC, "x": normal(D), "out": np.ones_like(payload()), **DRAWS},
    ),
    "decode": (method("codec", "decode"), lambda: {"codec": CODEC, "payload": payload(), "out": normal(D)}),
    "decode_add": (
        method("codec", "decode_add"),
        lambda: {"codec": CODEC, "payload": payload(), "out": normal(D), "weight": 0.5},
    ),
    "encode_frames": (
        _bridge.encode_frames,
        lambda: {"codec": CODEC, "x": normal(N, D), "out": frames(), "seed": 1, **ids(N)},
    ),
    "check_frames": (
        _bridge.check_frames,
        lambda: {"codec": CODEC, "frames": frames(), "d": D, **ids(N)},
    ),
    "frame_bytes": (_bridge.frame_bytes, lambda: {"codec": CODEC, "frames": frames(), "d": D}),
    "decode_frames": (_bridge.decode_frames, lambda: {"frames": proof(), "out": normal(N, D)}),
    "seal_frames": (
        _bridge.seal_frames,
        lambda: {"frames": frames(), "lens": np.full(N, 3, np.uint64), **ids(N)},
    ),
    "sealed_bytes": (_bridge.sealed_bytes, lambda: {"frames": sealed()}),
    "open_frames": (_bridge.open_frames, lambda: {"frames": sealed(), **ids(N)}),
    "MixingMatrix": (_bridge.MixingMatrix, lambda: {**csr(ring(N)[LOCAL]), "known": N, "own": np.array(LOCAL)}),
    "mix": (method("matrix", "mix"), lambda: {**values(), "x": normal(len(LOCAL), D), "gamma": 0.7}),
    "mix_in_place": (
        method("matrix", "mix_in_place"),
        lambda: {"matrix": matrix(ring(N)), "x": normal(N, D), "gamma": 0.7},
    ),
    "mix_frames": (
        method("matrix", "mix_frames"),
        lambda: {"matrix": rectangle(ring(N), LOCAL), "frames": proof(), "x": normal(len(LOCAL), D), "gamma": 0.7},
    ),
    "Average": (_bridge.Average, lambda: {"weights": np.full(N, 0.75 / N), "home": 0.25}),
    "average_mix": (
        method("average", "mix"),
        lambda: {"average": AVERAGE, "z": normal(N, D), "x": normal(len(LOCAL), D), "gamma": 0.7, "first": 1},
    ),
    "average_mix_frames": (
        method("average", "mix_frames"),
        lambda: {"average": AVERAGE, "frames": proof(), "x": normal(len(LOCAL), D), "gamma": 0.7, "first": 1},
    ),
    "clipped": (_bridge.clipped, lambda: {**values(), "radius": 1.0}),
    "clipped_beyond": (_bridge.clipped_beyond, lambda: {**values(), "bad": BAD}),
    "nearest": (_bridge.nearest, lambda: {**values(), "bad": BAD}),
    "krum": (_bridge.krum, lambda: {**values(), "bad": BAD * 0, "average": 1}),
    "trimmed_mean": (_bridge.trimmed_mean, lambda: {**values(), "x": normal(len(LOCAL), D), "bad": BAD, "gamma": 1.0}),
    "median": (_bridge.median, lambda: {**values(), "x": normal(len(LOCAL), D), "gamma": 1.0}),
    "push": (_bridge.push, spread),
    "consensus_distance": (_bridge.consensus_distance, lambda: {"x": normal(N, D)}),
    "product_distance": (
        _bridge.product_distance,
        lambda: {"x": normal(N, D), "layers": np.array([[0, 6, 2, 3, 4]], np.uint64), "scalings": np.ones(1)},
    ),
    "dropout_mask": (
        _bridge.dropout_mask,
        lambda: {"out": normal(N, D), "rate": 0.1, "seed": 1, "step": 2, "clients": COUNTS, "samples": COUNTS},
    ),
    "lora_forward": (
        _bridge.lora_forward,
        lambda: {**grouped(), "y": normal(3, 6), "down": normal(3, 4), "out": normal(3, 6)},
    ),
    "lora_backward": (
        _bridge.lora_backward,
        lambda: {
            **grouped(),
            "grad": normal(3, 6),
            "down": normal(3, 4),
            "grad_a": normal(2, 4, 5),
            "grad_b": normal(2, 6, 4),
            "grad_x": normal(3, 5),
        },
    ),
    "crc32c": (_bridge.crc32c, lambda: {"data": payload()}),
    "philox4x32_10": (core.philox4x32_10, lambda: {"counter": (1, 2, 3, 4), "key": (5, 6)}),
    "set_threads": (_bridge.set_threads, lambda: {"count": _bridge.threads()}),
}
WITHOUT_ARGUMENTS = {"level", "threads", "CheckedFrames", "codec_options"}
# Methods have a receiver, which is no argument.
RECEIVER = dict.fromkeys(("payload_bytes", "error_bound", "limit", "encode", "decode", "decode_add"), "codec")
RECEIVER |= dict.fromkeys(("mix", "mix_in_place", "mix_frames"), "matrix")
RECEIVER |= dict.fromkeys(("average_mix", "average_mix_frames"), "average")
# What a call may write when it is refused: `encode` and `encode_frames` leave zeros where there is no message.
ZEROED = {"encode", "encode_frames"}


def misaligned(good):
    raw = np.empty(good.nbytes + 1, np.uint8)[1:]
    return raw.view(good.dtype).reshape(good.shape) if good.itemsize > 1 else good


def read_only(good):
    view = good.copy()
    view.flags.writeable = False
    return view


ARRAYS = {
    "another dtype": lambda a: a.astype(np.complex64),
    "float16": lambda a: a.astype(np.float16),
    "float64": lambda a: a.astype(np.float64),
    "int8": lambda a: a.astype(np.int8),
    "bool": lambda a: a.astype(bool),
    "objects": lambda a: a.astype(object),
    "text": lambda a: a.astype("U4"),
    "structured": lambda a: np.zeros(a.shape, [("a", "f4"), ("b", "i8")]),
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "every other element": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[..., ::-1],
    "Fortran order": np.asfortranarray,
    "transposed": lambda a: a.T,
    "broadcast to any length": lambda a: np.broadcast_to(a.flat[0], (2**40, *a.shape[1:])),
    "no rows": lambda a: a[:0],
    "no columns": lambda a: a[..., :0],
    "2^50 rows of nothing": lambda a: np.empty((2**50, 0), a.dtype),
    "2^50 columns of no rows": lambda a: np.empty((0, 2**50), a.dtype),
    "one row less": lambda a: a[:-1],
    "one element more": lambda a: np.concatenate([a, a[..., -1:]], axis=-1),
    "one dimension less": lambda a: a.reshape(-1) if a.ndim > 1 else a[0],
    "one dimension more": lambda a: a[None],
    "no dimension": lambda a: a.reshape(-1)[0].reshape(()),
    "read-only": read_only,
    "misaligned": misaligned,
    "masked": np.ma.masked_array,
    "a matrix": lambda a: np.asmatrix(a) if a.ndim == 2 else a,
    "a tensor": lambda a: torch.from_numpy(a.copy()) if a.dtype != np.uint32 else a,
    "a bfloat16 tensor": lambda a: torch.zeros(a.shape, dtype=torch.bfloat16),
    "a tensor without memory": lambda a: torch.empty(a.shape, device="meta"),
    "a sparse tensor": lambda a: torch.zeros(a.shape).to_sparse(),
    "a tensor with a gradient": lambda a: torch.zeros(a.shape, requires_grad=True),
    "all bits set": lambda a: np.frombuffer(b"\xff" * a.nbytes, a.dtype).reshape(a.shape).copy(),
    "the least number": lambda a: np.full_like(a, np.iinfo(a.dtype).min if a.dtype.kind in "iu" else -np.inf),
    "the largest number": lambda a: np.full_like(a, np.iinfo(a.dtype).max if a.dtype.kind in "iu" else np.inf),
    "a list": lambda a: a.tolist(),
    "bytes": lambda a: a.tobytes(),
    "a memoryview": memoryview,
    "None": lambda a: None,
    "a class": lambda a: np.ndarray,
}
SCALARS = [
    None, True, -1, 0, 1, 2**24, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -(2**70), 0.5, 1e39, -1e300,
    math.nan, math.inf, -math.inf, "", "q4", "powersgd:rank=99999999999999999999", "\ud800", "q4\0", b"", bytes(15),
    bytes(16), [], [(2**63, 2**63)], [(2**32, 2**32), (2**32, 2**32)], [(-1, 3)], [(1,)], (0, 0, 0, 2**32), object(),
    np.float32(2), np.int64(-3), np.array(7), np.array([1.0]), 1j,
]  # fmt: skip


def arrays_of(arguments):
    """Returns the arrays among the arguments, by name."""
    return {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}


def call(name, function, arguments):
    """Calls; a refusal says something and leaves every array as it was. Returns whether it was refused."""
    before = {key: array.tobytes() for key, array in arrays_of(arguments).items() if array.nbytes < 2**20}
    try:
        function(**arguments)
    except errors.DecloraError as error:
        message = str(error)
    except (TypeError, ValueError, OverflowError):  # what cannot become the type that the function takes
        message = "an argument of another type"
    else:
        return False
    assert len(message) > 10
    for key, contents in before.items():
        if key == "out" and name in ZEROED and not any(arguments["out"].tobytes()):
            continue
        if key == "out" and name == "encode_frames":
            continue  # frames before the one that was refused are whole, as documented
        assert arguments[key].tobytes() == contents, f"{name} was refused and changed {key}"
    return True


def test_every_function_is_called_here():
    classes = (core.Codec, core.MixingMatrix)
    methods = {name: member for owner in classes for name, member in vars(owner).items() if callable(member)}
    methods |= {f"average_{name}": member for name, member in vars(core.Average).items() if name[0] != "_"}
    functions = {name: getattr(core, name) for name in core.__all__} | methods
    public = {name: function for name, function in functions.items() if callable(function) and name[0] != "_"}
    assert public.keys() - WITHOUT_ARGUMENTS == CALLS.keys()
    for name, (function, good) in CALLS.items():
        if not inspect.isclass(public[name]):
            parameters = inspect.signature(public[name]).parameters.keys()
            assert parameters - {"self"} == good().keys() - {RECEIVER.get(name)}, name
        assert not call(name, function, good()), name


@pytest.mark.filterwarnings("ignore")  # what numpy says of its matrix class and of casts that overflow
@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", CALLS)
def test_a_hostile_array_is_refused_or_computed(name, kind):
    function, good = CALLS[name]
    for key, array in arrays_of(good()).items():
        call(name, function, {**good(), key: ARRAYS[kind](array)})


@pytest.mark.parametrize("name", CALLS)
def test_a_hostile_scalar_is_refused_or_computed(name):
    function, good = CALLS[name]
    for key in good().keys() - {RECEIVER.get(name)}:
        for value in SCALARS:
            if name == "set_threads" and isinstance(value, int) and value > 64:
                continue  # so many threads are what was asked for
            call(name, function, {**good(), key: value})
    _bridge.set_threads(0)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("encode", "x", "out"), ("decode", "payload", "out"), ("decode_add", "payload", "out"),
        ("encode_frames", "x", "out"), ("encode_frames", "senders", "out"), ("encode_frames", "round", "out"),
        ("mix", "z", "x"), ("trimmed_mean", "z", "x"), ("trimmed_mean", "bad", "x"),
        ("median", "z", "x"), ("push", "z", "x"), ("push", "own", "x"),
        ("dropout_mask", "clients", "out"), ("dropout_mask", "samples", "out"),
        ("lora_forward", "y", "out"), ("lora_forward", "x", "down"), ("lora_forward", "down", "out"),
        ("lora_forward", "counts", "out"), ("lora_backward", "grad", "grad_x"), ("lora_backward", "a", "grad_a"),
        ("lora_backward", "down", "grad_b"), ("lora_backward", "grad_a", "grad_x"),
    ],
)  # fmt: skip
def test_what_is_written_shares_no_memory_with_what_else_is_given(name, one, other):
    function, good = CALLS[name]
    for through_torch in (False, True):  # views of one storage that numpy does not know of
        arguments = good()
        storage = torch.zeros(max(arguments[one].nbytes, arguments[other].nbytes), dtype=torch.uint8)
        array = storage.numpy()
        for key in (one, other):
            values = arguments[key]
            memory = storage.numpy() if through_torch else array
            arguments[key] = memory[: values.nbytes].view(values.dtype).reshape(values.shape)
        assert call(name, function, arguments)


@pytest.mark.parametrize(("name", "written"), [("decode_frames", "out"), ("mix_frames", "x")])
def test_what_frames_are_decoded_to_shares_no_memory_with_them(name, written):
    function, good = CALLS[name]
    arguments = good()
    storage = torch.zeros(max(frames().nbytes, arguments[written].nbytes), dtype=torch.uint8)
    bytes_of = storage.numpy()[: frames().nbytes].reshape(frames().shape)
    bytes_of[:] = frames()
    arguments["frames"] = checked(CODEC, bytes_of, D)
    values = arguments[written]
    arguments[written] = storage.numpy()[: values.nbytes].view(values.dtype).reshape(values.shape)
    assert call(name, function, arguments)


def test_bytes_that_change_behind_a_check_cause_no_panic():
    generator = np.random.default_rng(0)
    for spec in ("none", "q4", "q2+rans", "topk", "topk:values=q3+rans", "randk", "eden:bits=3", "natural", "sign"):
        codec, out = _bridge.Codec(spec), normal(N, D)
        bytes_of = framed(codec, normal(N, D))
        view = bytes_of[:]  # one that is still writeable
        found = checked(codec, bytes_of, D)
        for _ in range(20):
            view[:, _bridge.HEADER_BYTES :] = generator.integers(256, size=view[:, _bridge.HEADER_BYTES :].shape)
            with contextlib.suppress(errors.FrameError):  # from the entropy stage
                _bridge.decode_frames(found, out)
            with contextlib.suppress(errors.FrameError):
                matrix(ring(N)).mix_frames(found, out, 1.0)


@pytest.mark.parametrize("name", ["lora_forward", "lora_backward"])
def test_as_many_numbers_in_another_shape_are_refused(name):
    function, good = CALLS[name]
    for key, array in arrays_of(good()).items():
        if array.ndim > 1:
            turned = np.ascontiguousarray(array.swapaxes(-1, -2))
            assert call(name, function, {**good(), key: turned}), key


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_two_hostile_arguments_at_once(data):
    name = data.draw(st.sampled_from(sorted(CALLS.keys() - {"set_threads"})))
    function, good = CALLS[name]
    arguments = good()
    for key in data.draw(
        st.lists(st.sampled_from(sorted(arguments.keys() - {RECEIVER.get(name)})), min_size=1, max_size=2, unique=True)
    ):
        if isinstance(arguments[key], np.ndarray) and data.draw(st.booleans()):
            arguments[key] = ARRAYS[data.draw(st.sampled_from(list(ARRAYS)))](arguments[key])
        else:
            arguments[key] = SCALARS[data.draw(st.integers(0, len(SCALARS) - 1))]
    call(name, function, arguments)


@settings(max_examples=200, deadline=None)
@given(
    codec=st.sampled_from(["none", "q2", "q4+rans", "topk", "eden:bits=2", "natural+rans", "sign", "randk"]),
    n=st.integers(0, 200),
    payload=st.binary(max_size=900),
    good=st.booleans(),
)
def test_any_bytes_decode_to_finite_numbers_or_write_nothing(codec, n, payload, good):
    codec = _bridge.Codec(codec)
    size = codec.payload_bytes(n)
    payload = np.frombuffer((payload + bytes(size))[:size] if good else payload, np.uint8)
    out = np.full(n, -7.0, np.float32)
    try:
        codec.decode(payload, out)
    except errors.FrameError:
        assert (out == -7.0).all()
    else:
        assert np.isfinite(out).all()
