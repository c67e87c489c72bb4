"""How the page looks: light and dark, on a phone and on paper, without anything from elsewhere."""

from typing import Final

_COLOURS: Final = """
:root{--ink:#1b1f24;--soft:#5b6571;--line:#d8dee4;--page:#fff;--card:#f6f8fa;--good:#11683a;--bad:#b3261e;
--check:#0b57d0;--answer:#11683a;--dial:#8a4b00;--state:#6b3fa0;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b1;--line:#39424d;--page:#12161b;--card:#1b2128;
--good:#5fd08e;--bad:#ff8a80;--check:#8ab4f8;--answer:#5fd08e;--dial:#f0b264;--state:#c8a2f2}}
"""
_LADDER: Final = """
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
svg .name{font-size:13px;font-weight:600}
svg .time,svg .gap{fill:var(--soft);font-variant-numeric:tabular-nums}
svg line{stroke:var(--soft);stroke-width:1.2}svg .lane{stroke:var(--line);stroke-width:2}
svg line.check{stroke:var(--check)}svg line.server{stroke:var(--check)}
svg line.answer{stroke:var(--answer);stroke-dasharray:5 3}svg line.dial{stroke:var(--dial);stroke-dasharray:2 2}
svg .lost{stroke:var(--bad);stroke-width:1.6;fill:none}
svg .label{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg text.good{fill:var(--good);font-weight:600}svg text.bad{fill:var(--bad);font-weight:600}
svg text.state{fill:var(--state);font-weight:600}
svg circle{fill:var(--soft)}svg circle.good{fill:var(--good)}svg circle.bad{fill:var(--bad)}
svg circle.state{fill:var(--state)}
"""
LADDER_STYLE: Final = _COLOURS + _LADDER
"""For a ladder that stands alone, in a ``style`` element of its own."""
STYLE: Final = (
    _COLOURS
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.35rem;line-height:1.35;margin:.5rem 0;padding:.7rem 1rem;border-left:.4rem solid var(--soft);
background:var(--card)}
h1.good{border-color:var(--good)}h1.bad{border-color:var(--bad)}
h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0}.soft,.note{color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);overflow-wrap:normal}
td.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tr.selected td{font-weight:600}
code{font:.9em ui-monospace,monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0}
dt{color:var(--soft)}dd{margin:0}
details{margin:1rem 0}summary{cursor:pointer}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.3rem;background:var(--card)}
svg{display:block}
"""
    + _LADDER
    + """
@media (max-width:40rem){
thead{display:none}
tr{display:block;border-bottom:2px solid var(--line);padding:.4rem 0}
td{display:grid;grid-template-columns:6.5rem 1fr;gap:.5rem;border:0;padding:.1rem 0}
td.number{text-align:left}
td::before{content:attr(data-label);color:var(--soft);font-weight:400}
dl{grid-template-columns:1fr}dt{margin-top:.4rem}}
@media print{.scroll{overflow:visible;border:0}svg{max-width:100%;height:auto}details>*{display:block}}
"""
)
