//! The table as bars: what each way took, as a share of what the naive one did.

use std::fmt::Write;

use crate::Row;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const BAR: f64 = 14.0;
const GAP: f64 = 20.0;

/// An SVG that reads on a light page and on a dark one.
pub fn plot(rows: &[Row]) -> String {
    let share = |row: &Row, took: f64| took / row.took[2].unwrap_or(took);
    let widest =
        rows.iter().flat_map(|row| row.took.into_iter().flatten().map(|took| share(row, took))).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 90.0) / widest;
    let mut bars = String::new();
    let mut y = 40.0;
    for row in rows {
        let middle = y + 1.5 * BAR;
        let _ = writeln!(bars, "<text x='{}' y='{}' text-anchor='end'>{}</text>", LEFT - 10.0, middle + 4.0, row.name);
        for (way, took) in ["tenantry", "psql", "naive"].iter().zip(row.took) {
            if let Some(took) = took {
                let width = share(row, took) * scale;
                let _ = writeln!(
                    bars,
                    "<rect class='{way}' x='{LEFT}' y='{y}' width='{width:.1}' height='{}'/>",
                    BAR - 2.0
                );
                let (x, baseline) = (LEFT + width + 6.0, y + BAR - 4.0);
                let _ = writeln!(bars, "<text x='{x:.1}' y='{baseline:.1}'>{took:.2} s</text>");
            }
            y += BAR;
        }
        y += GAP;
    }
    let mut legend = String::new();
    for (way, x) in [("tenantry", LEFT), ("psql", LEFT + 110.0), ("naive", LEFT + 190.0)] {
        let _ = writeln!(legend, "<rect class='{way}' x='{x}' y='12' width='12' height='12'/>");
        let _ = writeln!(legend, "<text x='{}' y='22'>{way}</text>", x + 18.0);
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y}' width='{WIDTH}' height='{y}'>\n{STYLE}\n{legend}{bars}</svg>\n"
    )
}

const STYLE: &str = "<style>
text { font: 12px sans-serif; fill: #222 }
.tenantry { fill: #2a7de1 } .psql { fill: #8a8f98 } .naive { fill: #d08b3e }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
</style>";
