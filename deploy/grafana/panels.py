"""How the panels of the dashboard are drawn; what they ask is in dashboard.py."""

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as shown
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# Chosen at the top of the dashboard.
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Grafana's palette; a state has the same colour everywhere.
GOOD, WARN, BAD, NOTE, QUIET = "green", "orange", "red", "blue", "text"
STATES = {
    0: ("closed", GOOD),
    1: ("half-open", "yellow"),
    2: ("open", BAD),
    3: ("forced open", "purple"),
    4: ("forced closed", NOTE),
    5: ("disabled", QUIET),
}
STATE_COLORS = {text.replace("-", "_").replace(" ", "_"): color for text, color in STATES.values()}


class Ask(NamedTuple):
    """A query, and what its series are called: a word, or `{{label}}`."""

    expr: str
    legend: str = ""


def states() -> list[model.ValueMapping]:
    """What the numbers of `circuit_state` mean."""
    return [
        model.ValueMap(
            options={
                str(number): model.ValueMappingResult(text=text, color=color, index=number)
                for number, (text, color) in STATES.items()
            }
        )
    ]


def thresholds(*steps: tuple[float, str], base: str = GOOD) -> dashboard.ThresholdsConfig:
    """Colours from these values on; `base` below the first."""
    found = [model.Threshold(value=None, color=base)]
    found += [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _fixed(color: str) -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})]


def _query(ask: Ask, number: int, *, instant: bool = False) -> Dataquery:
    query = (
        Dataquery().expr(ask.expr).legend_format(ask.legend).ref_id(chr(ord("A") + number)).datasource(SOURCE)
    )
    return query.instant() if instant else query.range()


def number(
    title: str, why: str, *asks: Ask, unit: str, colors: dashboard.ThresholdsConfig, width: int = 4
) -> stat.Panel:
    """One figure, or a few, with a line of its past behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(colors)
        .height(4)
        .span(width)
        .color_mode(shown.BigValueColorMode.BACKGROUND if len(asks) == 1 else shown.BigValueColorMode.VALUE)
        .graph_mode(shown.BigValueGraphMode.AREA if len(asks) == 1 else shown.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("none")
    )
    for index, ask in enumerate(asks):
        panel = panel.with_target(_query(ask, index))
    return panel


def curves(
    title: str,
    why: str,
    *asks: Ask,
    unit: str,
    width: int = 12,
    stacked: bool = False,
    most: float | None = None,
    colors: dict[str, str] | None = None,
    limit: dashboard.ThresholdsConfig | None = None,
) -> timeseries.Panel:
    """Values over time.

    Args:
        title: what is shown.
        why: what to look for.
        asks: the queries.
        unit: Grafana's name of it.
        width: of 24.
        stacked: as parts of a sum.
        most: the top of the axis, where there is one.
        colors: of series, by their names.
        limit: a line to stay below.
    """
    legend = (
        common.VizLegendOptions()
        .display_mode(shown.LegendDisplayMode.TABLE)
        .placement(shown.LegendPlacement.RIGHT)
        .calcs(["mean", "max", "lastNotNull"])
        .show_legend(True)
    )
    panel = (
        timeseries.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .fill_opacity(40 if stacked else 10)
        .line_width(1)
        .show_points(shown.VisibilityMode.NEVER)
        .legend(legend)
        .tooltip(
            common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI).sort(shown.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shown.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel = panel.max(most)
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(shown.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(limit).thresholds_style(style)
    for name, color in (colors or {}).items():
        panel = panel.override_by_name(name, _fixed(color))
    for index, ask in enumerate(asks):
        panel = panel.with_target(_query(ask, index))
    return panel


def timeline(title: str, why: str, ask: Ask) -> statetimeline.Panel:
    """The states of circuits over time, a bar for each."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .mappings(states())
        .height(9)
        .span(24)
        .fill_opacity(80)
        .line_width(0)
        .merge_values(True)
        .show_value(shown.VisibilityMode.AUTO)
        .row_height(0.8)
        .per_page(20)
        .no_value("All circuits have been closed.")
        .legend(common.VizLegendOptions().show_legend(True).placement(shown.LegendPlacement.BOTTOM))
        .with_target(_query(ask, 0))
    )


class Column(NamedTuple):
    """A column of a table: its head, its query, its unit, and what else it has."""

    head: str
    expr: str
    unit: str
    colors: dashboard.ThresholdsConfig | None = None
    mappings: list[model.ValueMapping] | None = None


def rows(title: str, why: str, labels: Sequence[str], columns: Sequence[Column]) -> table.Panel:
    """A table with a row for each set of values of these labels."""
    panel = (
        table.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .height(9)
        .span(24)
        .no_value("-")
        .filterable(True)
        .sort_by([common.TableSortByFieldState().display_name(columns[0].head).desc(True)])
    )
    for index, column in enumerate(columns):
        query = _query(Ask(column.expr), index, instant=True).format(PromQueryFormat.TABLE)
        panel = panel.with_target(query)
        values: dict[str, object] = {"unit": column.unit}
        if column.colors is not None:
            values |= {
                "thresholds": column.colors.build(),
                "custom.cellOptions": {"type": "color-text"},
                "color": {"mode": "thresholds"},
            }
        if column.mappings is not None:
            values |= {
                "mappings": column.mappings,
                "custom.cellOptions": {"type": "color-background", "mode": "basic"},
            }
        properties = [model.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]
        panel = panel.override_by_name(column.head, properties)
    names = {f"Value #{chr(ord('A') + index)}": column.head for index, column in enumerate(columns)}
    order = {name: index for index, name in enumerate((*labels, *names))}
    return panel.with_transformation(
        model.DataTransformerConfig(id_val="merge", options={})
    ).with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
        )
    )
