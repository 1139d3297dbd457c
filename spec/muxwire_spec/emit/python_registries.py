"""Emit `muxwire/_generated/registries.py`: enums, flag bits, setting rules, named numbers."""

from __future__ import annotations

from muxwire_spec.emit.source import constants, integer, module
from muxwire_spec.model import Registry, Spec

PATH = "reference/muxwire/_generated/registries.py"

_ENUMS = {
    "FRAME_TYPES": "FrameType",
    "CONTROL_SUBTYPES": "ControlSubtype",
    "HEARTBEAT_SUBTYPES": "HeartbeatSubtype",
    "ERROR_CODES": "ErrorCode",
}
_FLAGS = ("FLAGS", "REQUEST_FLAGS", "ERROR_FLAGS")


def emit(spec: Spec) -> dict[str, bytes]:
    """Return the module of assigned numbers."""
    named = (*spec.constants, *spec.callhome.constants, *spec.http.constants)
    flags = [spec.registry(name) for name in _FLAGS]
    blocks = [
        "from enum import IntEnum\nfrom typing import NamedTuple",
        *(_enum(spec.registry(name), enum) for name, enum in _ENUMS.items()),
        _setting_ids(spec),
        "\n\n".join(_flag_bits(registry) for registry in flags),
        _setting_rules(spec),
        constants([(c.name, f"{integer(c.value)}  # {c.unit}") for c in named]),
    ]
    return {PATH: module("Assigned numbers of WMX/1 and WCH/1.", *blocks)}


def _flag_bits(registry: Registry) -> str:
    digits = registry.bits // 4
    return constants([(entry.name, f"0x{entry.value:0{digits}x}") for entry in registry.entries])


def _enum(registry: Registry, name: str) -> str:
    lines = [f"class {name}(IntEnum):", f'    """{registry.title}."""', ""]
    lines += [f"    {entry.name} = {entry.value:#04x}" for entry in registry.entries]
    return "\n".join(lines)


def _setting_ids(spec: Spec) -> str:
    lines = ["class SettingId(IntEnum):", '    """Settings."""', ""]
    lines += [f"    {setting.name} = {setting.value:#06x}" for setting in spec.settings]
    return "\n".join(lines)


def _setting_rules(spec: Spec) -> str:
    lines = [
        "class SettingRule(NamedTuple):",
        '    """Range of a setting, what holds before it is announced, and what to announce."""',
        "",
        "    name: str",
        "    minimum: int",
        "    assumed: int",
        "    recommended: int",
        "    maximum: int",
        "",
        "",
        "SETTING_RULES: dict[int, SettingRule] = {",
    ]
    for s in spec.settings:
        numbers = ", ".join(
            integer(value) for value in (s.minimum, s.assumed, s.recommended, s.maximum)
        )
        lines.append(f'    {s.value:#06x}: SettingRule("{s.name}", {numbers}),')
    lines.append("}")
    return "\n".join(lines)
