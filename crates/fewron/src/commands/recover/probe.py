"""Says as a line of JSON which fewron_recover this Python has, and how many GPUs PyTorch sees."""

import json

try:
    from fewron_recover import VERSION

    import torch

    print(json.dumps({"version": VERSION, "gpus": torch.cuda.device_count()}))
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
