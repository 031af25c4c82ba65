//! How cost grows with size.
//!
//! The figures of one table are of one run, so that their ratios hold on any machine. A figure is compared with the
//! one of the next smaller size: what a tenfold size would cost at this growth, as a multiple of ten times the cost.

mod agents;
mod node;
mod webhook;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::server::Server;
use crate::process::Workspace;
use crate::ui;

/// Growth over a tenfold size, as a multiple of linear growth, above which a figure is marked.
const MARKED: f64 = 1.5;
/// Columns of the widest table.
const WIDEST: usize = 8;
/// A process that uses less than this processor time in [`WINDOW`] has nothing left to do.
const CALM: f64 = 0.03;
const WINDOW: Duration = Duration::from_secs(1);
/// Windows after which the process is measured in any case.
const WINDOWS: u32 = 60;

/// Which tables, and how they are printed.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Only these tables (repeatable, or with commas)
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Name>,
    /// Exit with code 1 when a figure grows faster than linearly, or is over its budget
    #[arg(long)]
    check: bool,
    /// How the figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The tables of docs/performance.md
    Markdown,
    /// For programs; times in seconds, memory in MiB
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Rules of one policy: loading it, and a decision
    Rules,
    /// Policies: a decision, and a webhook that follows them
    Policies,
    /// Namespaces: a webhook that follows them
    Namespaces,
    /// Containers of a node: the agent's table
    Containers,
    /// Pods of a node, through containerd and the API server
    Pods,
    /// Agents, as the API server sees them
    Agents,
    /// From exec to ready
    Startup,
}

/// Figures by size.
struct Table {
    name: Name,
    columns: Vec<Column>,
    /// A size and its figures, in the order of the columns.
    rows: Vec<(usize, Vec<f64>)>,
    /// The most that columns may be in the first row.
    budgets: Vec<(&'static str, f64)>,
}

/// What is measured, and in which unit.
type Column = (&'static str, Unit);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    /// Seconds of processor time, which the kernel counts in steps of 10 ms.
    Processor,
    Mebibytes,
    Count,
    /// More of it is better, so it has no growth.
    PerSecond,
}

/// Builds for release, measures and prints.
pub(super) fn run_all(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let chosen = |name: &&Name| options.only.is_empty() || options.only.contains(name);
    let mut tables = Vec::new();
    for name in Name::value_variants().iter().filter(chosen) {
        let table = match name {
            Name::Rules => webhook::rules(workspace)?,
            Name::Policies => webhook::policies(workspace)?,
            Name::Namespaces => webhook::namespaces(workspace)?,
            Name::Containers => node::containers(workspace)?,
            Name::Pods => node::pods(workspace)?,
            Name::Agents => agents::agents(workspace)?,
            Name::Startup => node::startup(workspace)?,
        };
        match options.output {
            Format::Table => table.print(),
            Format::Markdown => table.print_markdown(),
            Format::Json => {}
        }
        tables.push(table);
    }
    if options.output == Format::Json {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        println!("{}", json!({ "tables": tables }));
    }
    let missed = tables
        .iter()
        .any(|it| it.marked().next().is_some() || !it.is_in_budget());
    Ok(ExitCode::from(u8::from(missed && options.check)))
}

impl Table {
    const fn new(name: Name, columns: Vec<Column>, rows: Vec<(usize, Vec<f64>)>) -> Self {
        Self {
            name,
            columns,
            rows,
            budgets: Vec::new(),
        }
    }

    /// Each budget in words, and whether it is met.
    fn budgets(&self) -> impl Iterator<Item = (String, bool)> {
        self.budgets.iter().map(|(column, most)| {
            let at = self.columns.iter().position(|it| it.0 == *column);
            let figure = at
                .and_then(|at| self.rows.first()?.1.get(at))
                .copied()
                .unwrap_or(f64::NAN);
            let [shown, limit] = [figure, *most].map(|it| Unit::Seconds.show(it));
            (
                format!("{column}: {shown} to ready, at most {limit}"),
                figure <= *most,
            )
        })
    }

    fn is_in_budget(&self) -> bool {
        self.budgets().all(|(_, met)| met)
    }

    /// The growth of a figure since the row before, as a multiple of linear growth over a tenfold size.
    fn growth(&self, row: usize, column: usize) -> Option<f64> {
        let (before, now) = (self.rows.get(row.checked_sub(1)?)?, &self.rows[row]);
        let unit = self.columns[column].1;
        let figure = |row: &(usize, Vec<f64>)| row.1[column].max(unit.least());
        let sizes = number(now.0) / number(before.0);
        let exponent = (figure(now) / figure(before)).ln() / sizes.ln();
        (unit != Unit::PerSecond).then(|| 10_f64.powf(exponent - 1.0))
    }

    /// Row and column of the figures that grow clearly faster than linearly.
    fn marked(&self) -> impl Iterator<Item = (usize, usize)> {
        let all =
            (0..self.rows.len()).flat_map(|row| (0..self.columns.len()).map(move |it| (row, it)));
        all.filter(|(row, column)| self.growth(*row, *column).is_some_and(|it| it > MARKED))
    }

    fn title(&self) -> String {
        let value = self.name.to_possible_value();
        value.map_or_else(String::new, |it| it.get_name().to_owned())
    }

    fn cell(&self, row: usize, column: usize) -> String {
        let figure = self.columns[column].1.show(self.rows[row].1[column]);
        match self.growth(row, column) {
            Some(growth) if growth > MARKED => format!("{figure} x{growth:.1} !"),
            Some(growth) => format!("{figure} x{growth:.1}"),
            None => figure,
        }
    }

    /// The head and all rows.
    fn cells(&self) -> Vec<Vec<String>> {
        let head =
            std::iter::once(self.title()).chain(self.columns.iter().map(|it| it.0.to_owned()));
        let row = |row: usize| {
            let cells = (0..self.columns.len()).map(|column| self.cell(row, column));
            std::iter::once(self.rows[row].0.to_string())
                .chain(cells)
                .collect()
        };
        std::iter::once(head.collect())
            .chain((0..self.rows.len()).map(row))
            .collect()
    }

    fn print(&self) {
        ui::heading(&self.title());
        let padded = |cells: Vec<String>| {
            let mut row: [String; WIDEST] = Default::default();
            for (place, cell) in row.iter_mut().zip(cells) {
                *place = cell;
            }
            row
        };
        let rows: Vec<_> = self.cells().into_iter().map(padded).collect();
        ui::table(&rows);
        println!();
        for (row, column) in self.marked() {
            let (what, size) = (self.columns[column].0, self.rows[row].0);
            ui::bad(format_args!(
                "{what} grows faster than linearly up to {size}"
            ));
        }
        for (text, met) in self.budgets() {
            ui::outcome(text, met);
        }
    }

    fn print_markdown(&self) {
        for (at, cells) in self.cells().iter().enumerate() {
            println!("| {} |", cells.join(" | "));
            if at == 0 {
                println!("|{}", "---|".repeat(cells.len()));
            }
        }
        println!();
    }

    fn json(&self) -> Value {
        let figure = |row: usize, column: usize| {
            json!({
                "what": self.columns[column].0,
                "figure": self.rows[row].1[column],
                "growth": self.growth(row, column),
            })
        };
        let row = |row: usize| {
            let figures: Vec<_> = (0..self.columns.len())
                .map(|column| figure(row, column))
                .collect();
            json!({"size": self.rows[row].0, "figures": figures})
        };
        let rows: Vec<_> = (0..self.rows.len()).map(row).collect();
        json!({"name": self.title(), "rows": rows})
    }
}

impl Unit {
    /// What cannot be distinguished from nothing.
    const fn least(self) -> f64 {
        match self {
            Self::Seconds => 1e-9,
            Self::Processor => 0.05,
            Self::Mebibytes => 0.1,
            Self::Count | Self::PerSecond => 1.0,
        }
    }

    fn show(self, figure: f64) -> String {
        match self {
            Self::Seconds | Self::Processor => super::time(figure * 1e9),
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Count => format!("{figure:.0}"),
            Self::PerSecond => format!("{figure:.0}/s"),
        }
    }
}

/// Waits until a process has nothing left to do, and returns the seconds of processor time that it has used.
fn when_calm(server: &Server) -> Result<f64> {
    let mut before = server.processor_time()?;
    for _ in 0..WINDOWS {
        sleep(WINDOW);
        let now = server.processor_time()?;
        if now - before <= CALM {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

/// The sum of the samples of a metric that have all these labels, in Prometheus' text format.
fn sum(text: &str, metric: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let (of, value) = rest.rsplit_once(' ')?;
        let is_its = of.is_empty() || of.starts_with('{');
        (is_its && labels.iter().all(|label| of.contains(label)))
            .then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

/// A size or a count, none of which comes near the precision of the type.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
const fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_a_multiple_of_linear_growth_over_a_decade() {
        let table = |rows: Vec<(usize, f64)>| {
            let rows = rows
                .into_iter()
                .map(|(size, it)| (size, vec![it]))
                .collect();
            Table::new(Name::Rules, vec![("loads", Unit::Seconds)], rows)
        };
        let growth = |size, figure| table(vec![(10, 1.0), (size, figure)]).growth(1, 0).unwrap();
        for (size, figure, expected) in [
            (100, 10.0, 1.0),
            (100, 1.0, 0.1),
            (100, 100.0, 10.0),
            (50, 5.0, 1.0),
            (50, 25.0, 10.0),
        ] {
            let found = growth(size, figure);
            assert!((found - expected).abs() < 1e-9, "{size}, {figure}: {found}");
        }
        let rows = table(vec![(10, 1.0), (100, 14.0), (1000, 300.0)]);
        assert_eq!(rows.growth(0, 0), None);
        assert_eq!(rows.marked().collect::<Vec<_>>(), [(2, 0)]);
        assert_eq!(rows.cell(2, 0), "300000 ms x2.1 !");
    }

    #[test]
    fn samples_are_selected_by_metric_and_labels() {
        let text = "a_total{verb=\"PUT\",resource=\"x\"} 2\na_total{verb=\"GET\"} 3\na_total_more 9\nb 4.5\n";
        assert!((sum(text, "a_total", &["verb=\"PUT\""]) - 2.0).abs() < 1e-9);
        assert!((sum(text, "a_total", &[]) - 5.0).abs() < 1e-9);
        assert!((sum(text, "b", &[]) - 4.5).abs() < 1e-9);
    }
}
