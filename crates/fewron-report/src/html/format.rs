//! Numbers and names as a reader wants them.

/// `0.961` → `96.1%`, with `digits` decimals; never rounds up to 100% nor down to 0%.
pub(super) fn percent(share: f64, digits: usize) -> String {
    if !share.is_finite() {
        return "–".to_owned();
    }
    let percent = share * 100.0;
    let step = 0.1_f64.powi(digits as i32);
    if percent < 100.0 && percent > 100.0 - step / 2.0 - 1e-9 {
        return format!(">{:.digits$}%", 100.0 - step);
    }
    if percent > 0.0 && percent < step / 2.0 + 1e-9 {
        return format!("<{step:.digits$}%");
    }
    format!("{percent:.digits$}%")
}

/// A share in a headline: whole percents, one decimal where a whole one would hide the loss.
pub(super) fn percent_short(share: f64) -> String {
    let near_end = share > 0.985 && share < 1.0 || share > 0.0 && share < 0.015;
    percent(share, usize::from(near_end))
}

/// A nominal ratio: `0.8` → `80%`, `0.125` → `12.5%`.
pub(super) fn ratio(ratio: f32) -> String {
    if !ratio.is_finite() {
        return "–".to_owned();
    }
    format!("{}%", (f64::from(ratio) * 1000.0).round() / 10.0)
}

/// Three significant digits or so, `–` when there is no number.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.1e}"),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 10.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

/// One decimal, as BLEU is written; `–` when there is no number.
pub(super) fn one_decimal(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "–".to_owned() }
}

/// `134515008` → `134.5 M`.
pub(super) fn count_short(count: u64) -> String {
    let value = count as f64;
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} B", value / 1e9),
    }
}

/// `1234567` → `1,234,567`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `42.0 s`, `12 min 3 s` or `3 h 20 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    format!("{} h {} min", whole / 3600, whole % 3600 / 60)
}

/// `one`, `two`, … up to nine; digits above.
pub(super) fn word(count: usize) -> String {
    const WORDS: [&str; 10] =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    WORDS.get(count).map_or_else(|| count.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_never_claim_all_or_nothing() {
        assert_eq!(percent(0.961, 1), "96.1%");
        assert_eq!(percent(0.9999, 1), ">99.9%");
        assert_eq!(percent(0.9995, 1), ">99.9%");
        assert_eq!(percent(1.0, 1), "100.0%");
        assert_eq!(percent(0.0001, 1), "<0.1%");
        assert_eq!(percent(f64::NAN, 1), "–");
        assert_eq!(percent_short(0.961), "96%");
        assert_eq!(percent_short(0.998), "99.8%");
        assert_eq!(percent_short(1.0), "100%");
    }

    #[test]
    fn ratios_and_counts() {
        assert_eq!(ratio(0.8), "80%");
        assert_eq!(ratio(0.125), "12.5%");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(count_short(134_515_008), "134.5 M");
        assert_eq!(duration(12_000.0), "3 h 20 min");
        assert_eq!(number(0.000_12), "1.2e-4");
    }
}
