//! Checks as a table, as markdown, as JUnit XML and as JSON.

use std::fs::{self, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{Check, Verdict};
use crate::cli::CheckArgs;

const HEADER: [&str; 6] = ["check", "variant", "baseline", "value", "loss (95%)", "verdict"];

/// Writes the checks wherever they are wanted.
pub(super) fn write(args: &CheckArgs, checks: &[Check]) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(checks)?);
    } else {
        println!("{}", table(checks));
    }
    if let Some(path) = &args.markdown {
        let open = OpenOptions::new().create(true).append(true).open(path);
        open.and_then(|mut file| file.write_all(markdown(checks).as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.junit {
        fs::write(path, junit(checks))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn row(check: &Check) -> [String; 6] {
    let percent = |share: f64| format!("{:+.1}%", 100.0 * share);
    let loss = &check.loss;
    [
        check.what.clone(),
        check.variant.clone(),
        format!("{:.4}", check.baseline),
        format!("{:.4}", check.value),
        format!("{} [{}, {}]", percent(loss.mean), percent(loss.low), percent(loss.high)),
        check.verdict.words().to_owned(),
    ]
}

fn table(checks: &[Check]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(HEADER);
    for check in checks {
        let cells = row(check).into_iter().enumerate().map(|(at, text)| match at {
            2..=4 => Cell::new(text).set_alignment(CellAlignment::Right),
            _ => Cell::new(text),
        });
        table.add_row(cells);
    }
    table.to_string()
}

fn markdown(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    let head = match failed {
        0 => format!("### fewron check: {} of {} fine", checks.len(), checks.len()),
        failed => format!("### fewron check: {failed} of {} failed", checks.len()),
    };
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![head, String::new(), line(&HEADER.map(str::to_owned))];
    lines.push("|---|---|---:|---:|---:|---|".to_owned());
    for check in checks {
        lines.push(line(&row(check).map(|cell| cell.replace('|', "\\|").replace('\n', " "))));
    }
    lines.join("\n") + "\n"
}

fn junit(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fewron check\" tests=\"{}\" \
         failures=\"{failed}\">\n",
        checks.len()
    );
    for check in checks {
        let [what, variant, baseline, value, loss, _] = row(check).map(|text| escaped(&text));
        xml.push_str(&format!("  <testcase classname=\"{variant}\" name=\"{what}\""));
        xml.push_str(&match check.verdict {
            Verdict::Failed => format!(
                ">\n    <failure message=\"{baseline} before, {value} now: {loss} lost\"/>\n  </testcase>\n"
            ),
            Verdict::Ok | Verdict::Noise => "/>\n".to_owned(),
        });
    }
    xml + "</testsuite>\n"
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewron_eval::record::Interval;

    #[test]
    fn names_cannot_break_out() {
        let check = Check {
            what: "a <b> & \"c\" | d".to_owned(),
            variant: "v".to_owned(),
            baseline: 0.5,
            value: 0.25,
            loss: Interval { mean: 0.5, low: 0.4, high: 0.6 },
            verdict: Verdict::of(&Interval { mean: 0.5, low: 0.4, high: 0.6 }, 0.02),
        };
        assert_eq!(check.verdict, Verdict::Failed);
        let xml = junit(std::slice::from_ref(&check));
        assert!(xml.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot; | d\""), "{xml}");
        assert!(xml.contains("tests=\"1\" failures=\"1\"") && xml.contains("+50.0%"), "{xml}");
        assert!(markdown(&[check]).contains("\\| d |"));
    }
}
