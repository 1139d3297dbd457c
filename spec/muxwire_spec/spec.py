"""The specification put together: `load_spec` lowers everything into one `Spec`."""

from __future__ import annotations

from functools import cache

from muxwire_spec import callhome, errors, frames, http, machines, profiles, recovery, registries
from muxwire_spec.lower import lower_layout
from muxwire_spec.model import Spec


@cache
def load_spec() -> Spec:
    """Return the specification in its intermediate representation.

    Raises:
        LoweringError: a layout says something that cannot be generated.
    """
    return Spec(
        name="WMX/1",
        version=frames.VERSION,
        magic=frames.MAGIC,
        marker=frames.MARKER,
        header_size=frames.HEADER_SIZE,
        preface_size=frames.PREFACE_SIZE,
        registries=registries.REGISTRIES,
        settings=registries.SETTINGS,
        constants=profiles.STANDARD,
        layouts=tuple(lower_layout(layout) for layout in (*frames.LAYOUTS, *callhome.LAYOUTS)),
        frames=frames.FRAMES,
        checks=frames.CHECKS,
        effects=machines.EFFECTS,
        machines=machines.MACHINES,
        facts=recovery.FACTS,
        classes=recovery.CLASSES,
        endings=errors.ENDINGS,
        errors=errors.RULES,
        callhome=callhome.WCH,
        http=http.SHARED,
    )
