//! Names on the command line and in records.

use fewron_sparsity::{Metric, PolicyKind, Scope, Selection};
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Parsing and JSON use the name that `Display` prints; other names get an error that lists them.
#[track_caller]
fn assert_named<T>(all: &[T])
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq,
    T: serde::Serialize + for<'a> serde::Deserialize<'a>,
{
    let Err(error) = "nonsense".parse::<T>() else { panic!("nonsense is no name") };
    for value in all {
        let name = value.to_string();
        assert_eq!(name.parse::<T>().ok().as_ref(), Some(value));
        let json = serde_json::to_string(value).unwrap();
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn names_go_there_and_back() {
    assert_named(&Metric::ALL);
    assert_named(&[Scope::Mlp, Scope::Heads, Scope::Both]);
    assert_named(&[Selection::Layer, Selection::Global, Selection::Threshold]);
    assert_named(&PolicyKind::ALL);
}
