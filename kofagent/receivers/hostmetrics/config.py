"""Options of `hostmetrics` and its scrapers, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.component.metric_options import AttributeToggle, MetricToggle, check_names, unknown_names
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.config.filterset import FilterSetBlock, compile_filterset, compile_include_exclude
from kofagent.receivers.hostmetrics.catalog import CATALOG, RESOURCE_ATTRIBUTES

Wanted = Callable[[str], bool]


class MetricOptions(MetricToggle):
    """Options of one metric."""

    attributes: list[str] | None = Field(None, description="Attributes to keep; points that become equal are aggregated.")
    aggregation_strategy: Literal["sum", "avg", "min", "max"] | None = Field(
        None, description="How equal points are aggregated; default: sum for sums, avg for gauges."
    )


class ScraperOptions(ComponentConfig):
    """What all scrapers share."""

    scraper: ClassVar[str] = ""
    metrics: dict[str, MetricOptions] = Field({}, description="Options per metric.")

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: dict[str, MetricOptions]) -> dict[str, MetricOptions]:
        catalog = CATALOG[cls.scraper]
        problems = unknown_names(value, catalog, f"the {cls.scraper} scraper has no such metric")
        problems += [
            Problem(
                (name, "attributes", i), f"the metric has no attribute {attribute!r}", suggest(attribute, catalog[name].attributes)
            )
            for name, options in value.items()
            for i, attribute in enumerate(options.attributes or ())
            if name in catalog and attribute not in catalog[name].attributes
        ]
        if problems:
            raise ConfigErrors(problems)
        return value


class CpuOptions(ScraperOptions):
    """`cpu`."""

    scraper = "cpu"


class DeviceMatch(FilterSetBlock):
    """Devices by name."""

    devices: list[str] = Field([], description="Names or patterns.")


class InterfaceMatch(FilterSetBlock):
    """Network interfaces by name."""

    interfaces: list[str] = Field([], description="Names or patterns.")


class FsTypeMatch(FilterSetBlock):
    """File systems by type."""

    fs_types: list[str] = Field([], description="Types or patterns.")


class MountPointMatch(FilterSetBlock):
    """File systems by mount point, as the host sees it."""

    mount_points: list[str] = Field([], description="Mount points or patterns.")


class NameMatch(FilterSetBlock):
    """Processes by name of the executable."""

    names: list[str] = Field([], description="Names or patterns.")


def _patterns(block: FilterSetBlock | None) -> Wanted | None:
    if block is None:
        return None
    (patterns,) = [getattr(block, name) for name in type(block).model_fields if name not in FilterSetBlock.model_fields]
    return compile_filterset(block.match_type, patterns) if patterns else None


def wanted(include: FilterSetBlock | None, exclude: FilterSetBlock | None) -> Wanted | None:
    """Both lists as one test; None if neither has a pattern. ValueError for a wrong pattern or match_type."""
    return compile_include_exclude(_patterns(include), _patterns(exclude))


class _Filtered(ScraperOptions):
    """A scraper whose lists are checked at validation."""

    @model_validator(mode="after")
    def _patterns_compile(self) -> _Filtered:
        problems = []
        for name in type(self).model_fields:
            block = getattr(self, name)
            if isinstance(block, FilterSetBlock):
                try:
                    _patterns(block)
                except ValueError as error:
                    problems.append(Problem((name,), str(error)))
        if problems:
            raise ConfigErrors(problems)
        return self


class DiskOptions(_Filtered):
    """`disk`."""

    scraper = "disk"
    include: DeviceMatch | None = Field(None, description="Devices that are read; default: all.")
    exclude: DeviceMatch | None = Field(None, description="Devices that are left out.")


class FilesystemOptions(_Filtered):
    """`filesystem`."""

    scraper = "filesystem"
    include_virtual_filesystems: bool = Field(False, description="Include file systems without a device, such as tmpfs.")
    include_devices: DeviceMatch | None = Field(None, description="Devices that are read; default: all.")
    exclude_devices: DeviceMatch | None = Field(None, description="Devices that are left out.")
    include_fs_types: FsTypeMatch | None = Field(None, description="Types that are read; default: all.")
    exclude_fs_types: FsTypeMatch | None = Field(None, description="Types that are left out.")
    include_mount_points: MountPointMatch | None = Field(None, description="Mount points that are read; default: all.")
    exclude_mount_points: MountPointMatch | None = Field(None, description="Mount points that are left out.")


class LoadOptions(ScraperOptions):
    """`load`."""

    scraper = "load"
    cpu_average: bool = Field(False, description="Divide by the number of CPUs.")


class MemoryOptions(ScraperOptions):
    """`memory`."""

    scraper = "memory"


class NetworkOptions(_Filtered):
    """`network`."""

    scraper = "network"
    include: InterfaceMatch | None = Field(None, description="Interfaces that are read; default: all.")
    exclude: InterfaceMatch | None = Field(None, description="Interfaces that are left out.")


class NfsOptions(ScraperOptions):
    """`nfs`."""

    scraper = "nfs"


class PagingOptions(ScraperOptions):
    """`paging`."""

    scraper = "paging"


class ProcessesOptions(ScraperOptions):
    """`processes`."""

    scraper = "processes"


class ProcessOptions(_Filtered):
    """`process`."""

    scraper = "process"
    resource_attributes: dict[str, AttributeToggle] = Field({}, description="Options per resource attribute.")
    include: NameMatch | None = Field(None, description="Names that are read; default: all.")
    exclude: NameMatch | None = Field(None, description="Names that are left out.")
    mute_process_all_errors: bool = Field(False, description="Do not report errors of reading processes.")
    mute_process_name_error: bool = Field(False, description="Do not report processes whose name cannot be read.")
    mute_process_io_error: bool = Field(False, description="Do not report I/O counters that cannot be read.")
    mute_process_cgroup_error: bool = Field(False, description="Do not report cgroups that cannot be read.")
    mute_process_exe_error: bool = Field(False, description="Do not report paths of executables that cannot be read.")
    mute_process_user_error: bool = Field(False, description="Do not report user ids without a name on this machine.")
    scrape_process_delay: Duration = Field(0.0, description="Leave out processes that are younger.")

    @field_validator("resource_attributes")
    @classmethod
    def _known_attributes(cls, value: dict[str, AttributeToggle]) -> dict[str, AttributeToggle]:
        check_names(value, RESOURCE_ATTRIBUTES, "the process scraper has no such resource attribute")
        return value


class SystemOptions(ScraperOptions):
    """`system`."""

    scraper = "system"


class ScrapersBlock(ComponentConfig):
    """`scrapers`: a key, even without a value, turns a scraper on."""

    cpu: CpuOptions | None = Field(None, description="Time of the CPUs.")
    disk: DiskOptions | None = Field(None, description="Operations of block devices.")
    filesystem: FilesystemOptions | None = Field(None, description="Space and inodes of file systems.")
    load: LoadOptions | None = Field(None, description="Load averages.")
    memory: MemoryOptions | None = Field(None, description="Memory.")
    network: NetworkOptions | None = Field(None, description="Interfaces and TCP connections.")
    nfs: NfsOptions | None = Field(None, description="NFS client and server (Linux).")
    paging: PagingOptions | None = Field(None, description="Swap and page faults.")
    process: ProcessOptions | None = Field(None, description="Each process.")
    processes: ProcessesOptions | None = Field(None, description="Number of processes.")
    system: SystemOptions | None = Field(None, description="Uptime.")

    @model_validator(mode="before")
    @classmethod
    def _present_means_on(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        check_names(map(str, value), CATALOG, "unknown scraper {!r}")
        return {name: {} if options is None else options for name, options in value.items()}

    def configured(self) -> dict[str, ScraperOptions]:
        """The scrapers that are on, with their options."""
        return {name: options for name in type(self).model_fields if (options := getattr(self, name)) is not None}


class Config(ComponentConfig):
    """Options of the hostmetrics receiver."""

    collection_interval: Duration = Field(60.0, gt=0, description="Time between two collections.")
    initial_delay: Duration = Field(1.0, ge=0, description="Time to wait before the first collection.")
    timeout: Duration = Field(
        0.0, ge=0, description="Time after which a collection is stopped and what was read is sent; 0: never."
    )
    root_path: str = Field("", description="Where the host's root directory is mounted (Linux).")
    metadata_collection_interval: Duration = Field(
        300.0, ge=0, description="Accepted for compatibility; entity events are not sent."
    )
    scrapers: ScrapersBlock = Field(description="The scrapers, by name.")

    @field_validator("scrapers")
    @classmethod
    def _at_least_one(cls, value: ScrapersBlock) -> ScrapersBlock:
        if not value.configured():
            raise ConfigErrors([Problem((), "has no scraper", suggest("", CATALOG))])
        return value
