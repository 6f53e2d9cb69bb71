from cluster.machine import Gpu, parse_nvidia_smi


def test_nvidia_smi_lines_become_gpus_with_their_decoders() -> None:
    text = "NVIDIA H200, 143771, 580.65.06\nNVIDIA L40S, 46068, 580.65.06\nFuture GPU, 1024, 1\n\n"
    assert parse_nvidia_smi(text) == (
        Gpu(name="NVIDIA H200", memory_gib=140.4, driver="580.65.06", num_nvdec=7),
        Gpu(name="NVIDIA L40S", memory_gib=45.0, driver="580.65.06", num_nvdec=3),
        Gpu(name="Future GPU", memory_gib=1.0, driver="1", num_nvdec=None),
    )
