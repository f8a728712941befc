"""Plays an exported policy on Meta-World with onnxruntime: neither JAX nor collectiverl is needed.

collectiverl export mt10 --format onnx --out given
python examples/onnx_policy.py given/policy.onnx window-close-v3
"""

import sys

import gymnasium
import metaworld  # noqa: F401, it registers its environments
import numpy as np
import onnxruntime

path, task = sys.argv[1:]
policy = onnxruntime.InferenceSession(path)
context = np.zeros((1, policy.get_inputs()[2].shape[1]), np.float32)  # zeros begin an episode
env = gymnasium.make("Meta-World/MT1", env_name=task, seed=0)
observation, _ = env.reset(seed=0)
reward = 0.0  # of the step before; the first is not read
for step in range(500):
    arrays = [np.asarray([value], np.float32) for value in (observation, reward)]
    inputs = dict(zip(("observation", "reward", "context"), (*arrays, context), strict=True))
    action, context = policy.run(None, inputs)
    observation, reward, _, _, info = env.step(action[0])
    if info["success"]:
        print(f"{task}: success after {step + 1} steps")
        break
else:
    print(f"{task}: no success")
