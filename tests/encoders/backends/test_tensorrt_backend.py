"""Which of a bundle's engines is opened, and that its bytes are those that were measured. How one runs
is tested on a fake library here, and on a GPU in tests/gpu."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from encoders.backends.tensorrt_backend import Engine, read_plans
from encoders.bundle.card import BundleMismatchError
from encoders.bundle.engine_records import DriftError, choose_engine, find_engines

FILES = {"video.onnx": "a" * 64, "video.safetensors": "c" * 64}


def test_the_fastest_precision_that_was_measured_and_is_near_enough_is_taken(engine):
    exact = replace(engine, precision="fp32")
    brain = replace(engine, precision="bf16")
    fitting = find_engines([exact, brain, engine], engine.target, FILES)
    assert [one.precision for one in fitting] == ["fp16", "bf16", "fp32"]
    assert choose_engine(fitting, what="b") is engine
    far = replace(engine, drift=replace(engine.drift, min_cosine_clips=0.99))
    not_run = replace(brain, drift=None)
    assert choose_engine([far, not_run, exact], what="b") is exact
    with pytest.raises(DriftError, match=r"min_cosine_clips is 0\.99"):
        choose_engine([far, not_run], what="b")
    with pytest.raises(DriftError, match="not run"):
        choose_engine([not_run, far], what="b")


def test_a_changed_engine_file_is_refused(tmp_path, engine):
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, engine)
    (tmp_path / "video.engine").write_bytes(b"other")
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, engine)


class FakeContext:
    """Adds one to what lies at the address of its input; fails as TensorRT does."""

    def __init__(self, engine):
        self.engine, self.shape, self.device_memory = engine, None, 0

    def set_input_shape(self, name, dims):
        self.shape = dims
        return True

    def get_tensor_shape(self, name):
        return self.shape

    def update_device_memory_size_for_shapes(self):
        return 1024 * self.shape[0]

    def set_tensor_address(self, name, address):
        self.engine.addresses[name] = address

    def execute_async_v3(self, stream):
        assert self.device_memory, "it has no scratch memory"
        self.engine.events.append(("run", self.shape, self.device_memory))
        return True


class FakeEngine:
    num_io_tensors = 2

    def __init__(self):
        self.events, self.addresses, self.has_memory = [], {}, True

    def get_tensor_name(self, number):
        return ("frames", "clip_vector")[number]

    def get_tensor_mode(self, name):
        return "in" if name == "frames" else "out"

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def create_runtime_config(self):
        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda s: self.events.append(("rtx", s))
        )

    def create_execution_context(self, how):
        self.events.append(("context", how))
        return FakeContext(self) if self.has_memory else None


@pytest.fixture
def fake(monkeypatch):
    """A library and an engine without a GPU: the calls of tensorrt that the backend makes, on tensors of the host."""
    stream = SimpleNamespace(
        wait_stream=lambda other: None,
        synchronize=lambda: engine.events.append(("synced",)),
        cuda_stream=0,
    )
    engine = FakeEngine()
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(Engine, "_capture", lambda self, shape: engine.events.append(("capture",)))
    library = SimpleNamespace(
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="mine"),
    )
    library.Logger = type("Logger", (), {"ERROR": 0, "__init__": lambda self, level: None})
    return SimpleNamespace(library=library, engine=engine)


def run(engine, num_clips):
    return engine.run({"frames": torch.zeros(num_clips, 3)})


def test_all_contexts_share_one_scratch(fake):
    engine = Engine(fake.library, b"plan", device="cpu")
    for num_clips in (64, 8, 3):
        run(engine, num_clips)
    scratch = {event[-1] for event in fake.engine.events if event[0] == "run"}
    assert len(scratch) == 1
    run(engine, 65)  # a larger one takes the place of the first, with all that was made for it
    assert len(engine._shapes) == 1
    assert ("context", "mine") in fake.engine.events


def test_a_context_goes_after_the_work_of_its_stream(fake):
    engine = Engine(fake.library, b"plan", device="cpu")
    for num_clips in (9, 8, 7, 6):
        run(engine, num_clips)
    fake.engine.events.clear()
    run(engine, 5)
    assert [event[0] for event in fake.engine.events] == ["context", "synced", "run"]
    assert len(engine._shapes) == 4


def test_a_context_without_memory_is_an_out_of_memory_that_halves_the_batch(fake):
    from encoders.stages.decode_embed_worker import _NO_MEMORY

    engine = Engine(fake.library, b"plan", device="cpu")
    fake.engine.has_memory = False
    with pytest.raises(torch.OutOfMemoryError) as error:
        run(engine, 64)
    assert _NO_MEMORY.search(str(error.value))


def test_tensorrt_captures_the_second_run_and_rtx_leaves_it_to_the_library(fake):
    engine = Engine(fake.library, b"plan", device="cpu")
    for _ in range(3):
        run(engine, 4)
    assert fake.engine.events.count(("capture",)) == 1
    fake.engine.events.clear()
    fake.library.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    fake.library.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    rtx = Engine(fake.library, b"plan", device="cpu")
    for _ in range(3):
        run(rtx, 4)
    assert ("capture",) not in fake.engine.events
    assert (rtx._runtime_config.cuda_graph_strategy, fake.engine.events[0]) == (
        "whole",
        ("rtx", "mine"),
    )


def test_the_names_are_those_of_the_library():
    """TensorRT for RTX installs without a GPU and shares its binding with TensorRT."""
    rtx = pytest.importorskip("tensorrt_rtx_bindings")
    assert rtx.ExecutionContextAllocationStrategy.USER_MANAGED
    assert rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    config = {"cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"}
    assert config <= set(dir(rtx.IRuntimeConfig))
    context = {"device_memory", "update_device_memory_size_for_shapes", "execute_async_v3"}
    assert context <= set(dir(rtx.IExecutionContext))
