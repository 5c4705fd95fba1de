// The style of pages. Colours are variables, which a dark screen replaces.
#pragma once

namespace gnv {

inline constexpr const char * page_style = R"(:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #1b2330; --soft: #5a6575; --line: #dfe3ea; --grid: #e8ebf0;
  --accent: #1f6feb; --track: #e9edf3;
  --good: #17713a; --good-back: #e2f4e8; --warning: #8a5a00; --warning-back: #fdf0d0; --bad: #b3261e; --bad-back: #fde5e3;
  --s0: #1f6feb; --s1: #c2410c; --s2: #0f766e; --s3: #7c3aed; --s4: #a16207; --s5: #be185d;
  --h0: #eef4fc; --h1: #d7e6f8; --h2: #b8d3f2; --h3: #93bcea; --h4: #6ba1df; --h5: #4585cf; --h6: #2a69b6; --h7: #174f95;
  --h8: #0a3568; --h9: #f2b8a0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181e27; --ink: #e6eaf0; --soft: #9aa6b6; --line: #2b3442; --grid: #252d39;
    --accent: #6ea8fe; --track: #263040;
    --good: #6fd08c; --good-back: #16301f; --warning: #f0c05a; --warning-back: #352a10; --bad: #ff8a80; --bad-back: #3b1a18;
    --s0: #6ea8fe; --s1: #ff9d66; --s2: #4fd1c0; --s3: #b794f6; --s4: #e5c04d; --s5: #f687b3;
    --h0: #16202e; --h1: #17304f; --h2: #19426f; --h3: #1d558f; --h4: #276bae; --h5: #4184c8; --h6: #66a1dc; --h7: #95c0ec;
    --h8: #cbe1f8; --h9: #8a3f26;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1240px; padding: 20px 16px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
h3 { font-size: .95rem; margin: 20px 0 4px; }
p { margin: 4px 0 10px; }
.path, .facts dd, code { overflow-wrap: anywhere; }
.path, .lead, .note, .small, caption, footer, figcaption + svg + .note { color: var(--soft); }
.note, .small, footer { font-size: .82rem; }
.pill { display: inline-block; padding: 2px 10px; border-radius: 99px; font-size: .85rem; font-weight: 600;
  background: var(--track); }
.pill.good { color: var(--good); background: var(--good-back); }
.pill.warning { color: var(--warning); background: var(--warning-back); }
.pill.bad { color: var(--bad); background: var(--bad-back); }
.tiles { list-style: none; margin: 16px 0; padding: 0; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px; }
.tiles span { display: block; }
.tiles .name { font-size: .82rem; color: var(--soft); }
.tiles strong { font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles strong.good { color: var(--good); }
.tiles strong.warning { color: var(--warning); }
.tiles strong.bad { color: var(--bad); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 16px; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; padding: 4px 0; }
a:hover, a:focus-visible { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 0 0 16px;
  scroll-margin-top: 8px; }
.facts { display: grid; gap: 8px 24px; margin: 8px 0 0; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.facts dt { font-size: .82rem; color: var(--soft); }
.facts dd { margin: 0; }
.charts { display: grid; gap: 20px 28px; margin: 12px 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 460px; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: 6px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.g { stroke: var(--grid); stroke-width: 1; }
.b { fill: var(--accent); }
.t { fill: var(--track); }
.l { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.d { fill: none; stroke-width: 4.5; stroke-linecap: round; }
.r { fill: none; stroke-width: 1.4; opacity: .65; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
.l.s1 { stroke-dasharray: 6 3; } .l.s2 { stroke-dasharray: 2 3; } .l.s3 { stroke-dasharray: 8 3 2 3; }
.l.s4 { stroke-dasharray: 12 4; } .l.s5 { stroke-dasharray: 4 2 1 2; }
path[class^=h] { shape-rendering: crispEdges; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 4px 0 0; padding: 0; font-size: .82rem;
  color: var(--soft); }
.legend .line { display: inline-block; width: 18px; margin-right: 6px; vertical-align: middle; border-top: 3px solid; }
.line.s0 { border-color: var(--s0); } .line.s1 { border-color: var(--s1); border-top-style: dashed; }
.line.s2 { border-color: var(--s2); border-top-style: dotted; } .line.s3 { border-color: var(--s3); border-top-style: dashed; }
.line.s4 { border-color: var(--s4); } .line.s5 { border-color: var(--s5); border-top-style: dotted; }
.ramp { display: inline-flex; vertical-align: middle; }
.ramp i { width: 12px; height: 12px; }
.key { display: inline-block; width: 12px; height: 12px; margin-right: 6px; vertical-align: middle; }
.h0 { fill: var(--h0); background: var(--h0); } .h1 { fill: var(--h1); background: var(--h1); }
.h2 { fill: var(--h2); background: var(--h2); } .h3 { fill: var(--h3); background: var(--h3); }
.h4 { fill: var(--h4); background: var(--h4); } .h5 { fill: var(--h5); background: var(--h5); }
.h6 { fill: var(--h6); background: var(--h6); } .h7 { fill: var(--h7); background: var(--h7); }
.h8 { fill: var(--h8); background: var(--h8); } .h9 { fill: var(--h9); background: var(--h9); }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: .82rem; padding-bottom: 4px; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; }
thead th { color: var(--soft); font-size: .82rem; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.meter { display: inline-block; width: 60px; height: 7px; border-radius: 3px; background: var(--track); margin-right: 8px;
  overflow: hidden; vertical-align: middle; }
.meter i { display: block; height: 100%; background: var(--accent); }
details { margin: 10px 0 0; }
summary { cursor: pointer; color: var(--accent); font-size: .9rem; padding: 4px 0; }
ul { padding-left: 20px; margin: 6px 0; }
.finding { border-left: 4px solid var(--line); padding: 2px 0 2px 12px; margin: 12px 0; overflow-wrap: anywhere; }
.finding.bad { border-color: var(--bad); } .finding.warning { border-color: var(--warning); }
.context { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; margin: 10px 0; overflow-wrap: anywhere; }
.context p { margin: 2px 0; }
.context .text { white-space: pre-wrap; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
mark { background: var(--warning-back); color: var(--ink); border-radius: 3px; padding: 0 2px; }
@media (max-width: 640px) { td:not(.n) { min-width: 8.5rem; } }
@media (max-width: 640px) { td:not(.n) { min-width: 8.5rem; } }
@media print { body { background: none; } section { break-inside: avoid; } nav { display: none; } }
)";

} // namespace gnv
