//! Which units matter for which category of questions.

use fewron_eval::neurons::LEAST_ANSWERS;
use fewron_eval::neurons::record::{
    CategoryOverlap, Kind, MaskRecord, NeuronRun, SpecificUnit, Specificity,
};
use maud::{Markup, html};

use super::super::format::percent;
use super::super::tables::heat;
use super::figure::{Data, cell, figure};
use super::{Drawn, main_kind, panels, section as chapter};

/// z that has the deepest colour.
const DEEPEST: f64 = 3.0;

/// Units of a category in the table on the page; the file has all that the record has.
const SHOWN: usize = 5;

pub(super) fn section(run: &NeuronRun, drawn: &mut Drawn) {
    if run.categories.is_empty() {
        return;
    }
    let tested = run.masks.iter().any(|mask| !mask.specificity.is_empty());
    let content = html! {
        @if tested {
            (by_layer(run, drawn))
            (specific(run, drawn))
            (overlap(run, drawn))
        } @else {
            p.note { "No category has " (LEAST_ANSWERS) " answers with as many outside it: nothing is tested. Ask more questions." }
        }
    };
    let title = "What belongs to a category";
    drawn.sections.push(("categories", "Categories", chapter("categories", title, &content)));
}

/// A mask's categories, of the kind that the page begins with.
fn of_mask(mask: &MaskRecord) -> impl Iterator<Item = &Specificity> {
    let kind = main_kind(mask);
    mask.specificity.iter().filter(move |category| category.kind == kind)
}

/// The same, those first in which a unit differs most.
fn most_specific(mask: &MaskRecord) -> Vec<&Specificity> {
    let largest = |category: &Specificity| category.units.first().map_or(0.0, |u| u.z.abs());
    let mut categories: Vec<&Specificity> = of_mask(mask).collect();
    categories.sort_by(|a, b| largest(b).total_cmp(&largest(a)));
    categories
}

fn by_layer(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let mut data = Data::new("specificity", &["mask", "kind", "category", "layer", "rms z"]);
    for mask in &run.masks {
        for category in &mask.specificity {
            for (layer, z) in category.rms_z.iter().enumerate() {
                data.push(vec![
                    mask.name.as_str().into(),
                    category.kind.name().into(),
                    category.category.as_str().into(),
                    layer.into(),
                    cell(*z),
                ]);
            }
        }
    }
    let picture = panels(run, |mask| {
        html! {
            div.scroll tabindex="0" role="region" aria-label={ "How far each category differs, by layer, " (mask.name) } {
                table.matrix.dense {
                    caption.unseen { "How far each category differs, by layer, by " (mask.name) }
                    thead { tr { td {} @for layer in 0..run.layers { th scope="col" { (layer) } } } }
                    tbody { @for category in of_mask(mask) {
                        tr {
                            th scope="row" { (category.category) }
                            @for (layer, z) in category.rms_z.iter().enumerate() { (z_cell(layer, *z)) }
                        }
                    } }
                }
            }
        }
    });
    let note = "Root mean square of z over a layer’s units (columns are layers). 1 is what dealing the \
                answers to categories at random gives; more means that the category’s answers keep other \
                units than the rest.";
    let question = "Which layers tell the categories apart?";
    let figure = figure(question, &data, false, &picture, note);
    drawn.tables.push(data);
    figure
}

fn z_cell(layer: usize, z: Option<f64>) -> Markup {
    html! {
        @if let Some(z) = z {
            td class=(heat((z - 0.5) / DEEPEST)) title={ "layer " (layer) } { (format!("{z:.1}")) }
        } @else { td { "–" } }
    }
}

fn specific(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let columns = ["mask", "kind", "category", "layer", "unit", "inside", "elsewhere", "z", "p"];
    let mut data = Data::new("specific", &columns);
    for mask in &run.masks {
        for category in &mask.specificity {
            for unit in &category.units {
                data.push(vec![
                    mask.name.as_str().into(),
                    category.kind.name().into(),
                    category.category.as_str().into(),
                    unit.layer.into(),
                    unit.unit.into(),
                    cell(Some(unit.inside)),
                    cell(Some(unit.outside)),
                    cell(Some(unit.z)),
                    cell(Some(unit.p)),
                ]);
            }
        }
    }
    let picture = panels(run, |mask| {
        html! {
            div.scroll.tall tabindex="0" role="region" aria-label={ "Units that stand out by category, " (mask.name) } {
                table {
                    caption.unseen { "Units that stand out by category, by " (mask.name) }
                    thead { tr {
                        @for name in ["Category", "Unit", "Kept inside", "Kept elsewhere", "z", "p"] { th scope="col" { (name) } }
                    } }
                    tbody { @for category in most_specific(mask) {
                        @for unit in category.units.iter().take(SHOWN) { (specific_row(category, unit)) }
                    } }
                }
            }
        }
    });
    let note = "The units whose share of kept tokens differs most between a category’s answers and all \
                others. z counts standard deviations of the difference where answers are dealt to \
                categories at random. p is the share of such dealings whose largest |z| of any unit is as \
                large, so it holds for all units of the category at once; bold means p ≤ 0.05.";
    let question = "Which units belong to a category?";
    let figure = figure(question, &data, false, &picture, note);
    drawn.tables.push(data);
    figure
}

fn specific_row(category: &Specificity, unit: &SpecificUnit) -> Markup {
    let kind = if category.kind == Kind::Head { "head" } else { "neuron" };
    html! {
        tr class=[(unit.p <= 0.05).then_some("significant")] {
            th scope="row" { (category.category) }
            td { "layer " (unit.layer) ", " (kind) " " (unit.unit) }
            td { (percent(unit.inside, 0)) } td { (percent(unit.outside, 0)) }
            td { (format!("{:+.1}", unit.z)) } td { (format!("{:.3}", unit.p)) }
        }
    }
}

fn overlap(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let columns = ["mask", "kind", "one category", "other category", "Jaccard", "shuffled"];
    let mut data = Data::new("category-overlap", &columns);
    for mask in &run.masks {
        for pair in &mask.category_overlap {
            data.push(vec![
                mask.name.as_str().into(),
                pair.kind.name().into(),
                pair.a.as_str().into(),
                pair.b.as_str().into(),
                cell(Some(pair.jaccard)),
                cell(Some(pair.shuffled)),
            ]);
        }
    }
    if data.rows.is_empty() {
        return html! {};
    }
    let picture = panels(run, matrix);
    let note = "Jaccard index of two categories’ core sets: of each layer the units that the category \
                keeps most often, as many as a token keeps; mean over the layers. The number below is the \
                same for answers dealt at random: what lies between the two is due to the categories.";
    let question = "Do categories share their core units?";
    let figure = figure(question, &data, false, &picture, note);
    drawn.tables.push(data);
    figure
}

fn matrix(mask: &MaskRecord) -> Markup {
    let kind = main_kind(mask);
    let pairs: Vec<&CategoryOverlap> =
        mask.category_overlap.iter().filter(|pair| pair.kind == kind).collect();
    let names: Vec<&str> = of_mask(mask).map(|category| category.category.as_str()).collect();
    let find = |a: &str, b: &str| {
        pairs.iter().find(|pair| (pair.a == a && pair.b == b) || (pair.a == b && pair.b == a))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Overlap of the categories’ core units, " (mask.name) } {
            table.matrix.overlaps {
                caption.unseen { "Overlap of the categories’ core units, by " (mask.name) }
                thead { tr { td {} @for name in &names { th scope="col" { (name) } } } }
                tbody { @for a in &names {
                    tr {
                        th scope="row" { (a) }
                        @for b in &names {
                            @if let Some(pair) = find(a, b) {
                                td class=(heat(pair.jaccard)) title={ (a) " and " (b) } {
                                    (format!("{:.2}", pair.jaccard)) small { (format!("{:.2}", pair.shuffled)) }
                                }
                            } @else { td.self { "·" } }
                        }
                    }
                } }
            }
        }
    }
}
