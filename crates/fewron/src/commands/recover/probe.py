"""Says as a line of JSON which fewron_recover this Python has, and whether PyTorch has a GPU."""

import json

try:
    from fewron_recover import VERSION

    import torch

    print(json.dumps({"version": VERSION, "gpu": torch.cuda.is_available()}))
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
