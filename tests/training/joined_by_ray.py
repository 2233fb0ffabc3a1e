"""Two actors of Ray that train one model on JAX, or a trainer of Ray, which cannot.

python joined_by_ray.py RUN_DIR actors
python joined_by_ray.py RUN_DIR trainer
"""

import os
import pathlib
import sys

import ray

ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "PYTHONPATH": str(pathlib.Path(__file__).parent),
}


def train(run_dir):
    import resumable_run

    model = resumable_run.build_model(jit_compile="auto")
    resumable_run.train(run_dir, model)


class Worker:
    def address(self):
        import socket

        with socket.socket() as listening:
            listening.bind(("", 0))
            port = listening.getsockname()[1]
        return f"{ray.util.get_node_ip_address()}:{port}"

    def train(self, run_dir, address, number, count):
        os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = address
        os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(count)
        os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] = str(number)
        from ood_keras import training

        training.join_processes()
        train(run_dir)


def train_by_actors(run_dir):
    remote = ray.remote(num_cpus=1, runtime_env={"env_vars": ENVIRONMENT})(Worker)
    workers = [remote.remote() for _ in range(2)]
    address = ray.get(workers[0].address.remote())
    ray.get(
        [
            worker.train.remote(run_dir, address, number, len(workers))
            for number, worker in enumerate(workers)
        ]
    )


def train_by_trainer(run_dir):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.jax import JaxTrainer

    def loop():
        try:
            train(run_dir)
        except ValueError as error:
            print("refused:", error)

    JaxTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=f"{run_dir}.storage"),
    ).fit()


if __name__ == "__main__":
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    {"actors": train_by_actors, "trainer": train_by_trainer}[sys.argv[2]](sys.argv[1])
