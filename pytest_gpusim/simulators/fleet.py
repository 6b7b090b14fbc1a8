"""Several engines that share one load, and the router that deals requests out to them.

A request is routed when it reaches the fleet; then it stays with its replica. Each replica has KV
blocks and a prefix cache of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.frontend_client import FrontendClient
from pytest_gpusim.workload.client import LoadClient


class Router:
    """Chooses a replica for one request after another.

    ``round_robin`` takes them in turn; ``random`` each with equal chance, the same ones in every
    run; ``least_outstanding`` the one with the fewest unfinished requests, the first of several.
    """

    def __init__(self, policy: str, replicas: int) -> None:
        self._policy, self._replicas = policy, replicas
        self._turns = cycle(range(replicas))
        self._chance = random.Random("router")

    def choose(self, outstanding: Sequence[int]) -> int:
        """The replica of the next request, given the unfinished requests of each."""
        if self._policy == "round_robin":
            return next(self._turns)
        if self._policy == "random":
            return self._chance.randrange(self._replicas)
        return min(range(self._replicas), key=outstanding.__getitem__)


@dataclass(frozen=True)
class Fleet:
    """Engines that are alike, with one client.

    Attributes:
        engines: One a replica.
        policy: One of `parameters.ROUTERS`.
        router: Deals requests out.
    """

    engines: tuple[ServingEngine, ...]
    policy: str
    router: Router

    @classmethod
    def of_inputs(cls, inputs: SimulationInputs, replicas: int, policy: str) -> Fleet:
        """The fleet of ``replicas`` engines that ``inputs`` describe.

        Raises:
            UsageError: Its settings are incomplete or contradict each other.
            InputError: The bundle does not fit them.
        """
        if replicas > len(inputs.workload.requests):
            number = len(inputs.workload.requests)
            raise UsageError(f"parameter replicas={replicas}: the workload has {number} requests")
        first = ServingEngine.of_inputs(inputs)
        others = [
            ServingEngine(first.rules, first.model, first.keys, first.client, first.frontend)
            for _ in range(replicas - 1)
        ]
        return cls((first, *others), policy, Router(policy, replicas))

    @property
    def client(self) -> LoadClient | FrontendClient:
        """Who sends the requests."""
        return self.engines[0].client

    def arrive_due(self, now_ns: int) -> None:
        """Route what the client sends by now into the engines' queues."""
        for request in self.client.take(now_ns):
            outstanding = [engine.scheduler.num_unfinished for engine in self.engines]
            self.engines[self.router.choose(outstanding)].arrive(request)

    def to_json(self) -> dict[str, object]:
        """For a run's metadata: size, router, and how many requests each replica served."""
        served = [len(engine.requests) for engine in self.engines]
        return {"replicas": len(self.engines), "router": self.policy, "requests": served}
