"""The types that Vidur's configurations and command line can name.

Vidur finds them among the subclasses of its own, and reads the types of their fields: so no
postponed annotations here.
"""

from dataclasses import dataclass, field

from vidur.config import (
    BaseExecutionTimePredictorConfig,
    BaseGlobalSchedulerConfig,
    BaseReplicaSchedulerConfig,
    BaseRequestGeneratorConfig,
    RandomForrestExecutionTimePredictorConfig,
    SarathiSchedulerConfig,
)


@dataclass
class GpusimWorkloadConfig(BaseRequestGeneratorConfig):
    """A workload with its exact arrivals."""

    directory: str = field(default="", metadata={"help": "Workload directory to replay."})
    session: int = field(default=0, metadata={"help": "Number of a pytest-gpusim session."})

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_workload"


@dataclass
class GpusimVllmSchedulerConfig(BaseReplicaSchedulerConfig):
    """vLLM v1's scheduling rules."""

    session: int = field(default=0, metadata={"help": "Number of a pytest-gpusim session."})

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_vllm"


@dataclass
class GpusimSarathiSchedulerConfig(SarathiSchedulerConfig):
    """Vidur's own sarathi, with exact times."""

    session: int = field(default=0, metadata={"help": "Number of a pytest-gpusim session."})

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_sarathi"


@dataclass
class GpusimSingleReplicaConfig(BaseGlobalSchedulerConfig):
    """All requests to the only replica."""

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_single"


@dataclass
class GpusimRoundRobinConfig(BaseGlobalSchedulerConfig):
    """Replicas in turn."""

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_round_robin"


@dataclass
class GpusimRandomConfig(BaseGlobalSchedulerConfig):
    """Each replica with equal chance."""

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_random"


@dataclass
class GpusimLeastOutstandingConfig(BaseGlobalSchedulerConfig):
    """The replica with the fewest unfinished requests."""

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_least_outstanding"


@dataclass
class GpusimProfilePredictorConfig(BaseExecutionTimePredictorConfig):
    """Interpolation of a profile bundle."""

    bundle: str = field(default="", metadata={"help": "Directory of the profile bundle."})
    session: int = field(default=0, metadata={"help": "Number of a pytest-gpusim session."})

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_profile"


@dataclass
class GpusimForestConfig(RandomForrestExecutionTimePredictorConfig):
    """Vidur's random forest on a profile bundle."""

    session: int = field(default=0, metadata={"help": "Number of a pytest-gpusim session."})

    @staticmethod
    def get_type() -> str:
        """Its name on Vidur's command line."""
        return "gpusim_random_forest"
