"""What happens inside one trial: data, attacks, defenses, networks and their measurement.

Needs only torch, torchvision, torchmetrics, numpy, scikit-learn, pyarrow, Pillow and safetensors.
"""
