//! Whether images are approved, and what is said about those that are not.

use super::objects::{Validation, Variable};
use super::steps::{KEPT, NO_RULE, REFUSED, last, unsaid};
use super::{cel, image, variable};
use crate::report::Parts;
use imageswap_policy::{ListedPattern, Outline, Policy};

/// Images that a message names; more are counted.
const NAMED: usize = 5;
/// Approved places that a message names.
const PLACES: usize = 4;
/// The longest image in a message.
const LONGEST: usize = 200;

/// The variables and the validation of a policy that judges.
pub(super) struct Judgement {
    pub(super) variables: Vec<Variable>,
    pub(super) validation: Validation,
}

pub(super) fn write(
    policy: &Policy,
    outline: &Outline<'_>,
    parts: &mut Parts<'_>,
) -> Result<Judgement, String> {
    let approved = approved(outline, parts)?;
    let denied = denied(outline, parts)?;
    let judged = format!(
        "{}.map(x, {{'list': x.list, 'name': x.name, 'image': x.image, 'why':\n  \
           x.now != x.image ? 'would become ' + x.now + ', which has not happened'\n  \
           : x.canonical == '' ? 'is not an image reference'\n\
           {denied}  \
           : x.by == {REFUSED} ? 'matches a rule that could not be exported'\n  \
           : {approved} ? ''\n  \
           : 'is not approved'\n}})",
        last(outline)
    );
    let variables = vec![
        variable("judged", judged),
        variable("refused", "variables.judged.filter(x, x.why != '')"),
    ];
    Ok(Judgement {
        variables,
        validation: Validation {
            expression: "size(variables.refused) == 0".to_owned(),
            message: format!(
                "policy {} does not approve an image of the Pod",
                policy.name()
            ),
            message_expression: message(policy),
        },
    })
}

/// The condition that an image that stays is approved, unless it is denied.
fn approved(outline: &Outline<'_>, parts: &mut Parts<'_>) -> Result<String, String> {
    let any = |items: &[ListedPattern<'_>]| {
        let conditions = items
            .iter()
            .map(|it| image::listed(it, "x.canonical").ok_or_else(|| unsaid(it.pattern)));
        let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let mut seen = Vec::new();
        conditions.retain(|it| {
            let new = !seen.contains(it);
            seen.push(it.clone());
            new
        });
        Ok::<_, String>(cel::any(&conditions))
    };
    match &outline.approved {
        Some(listed) => {
            let condition = any(listed)?;
            parts.exported("approved");
            Ok(condition)
        }
        None => Ok(format!(
            "x.by == {KEPT} || x.by == {NO_RULE} && ({})",
            any(&outline.targets)?
        )),
    }
}

/// Lines of a chain of conditions, with what is said about a denied image.
fn denied(outline: &Outline<'_>, parts: &mut Parts<'_>) -> Result<String, String> {
    let mut text = String::new();
    for it in &outline.denied {
        let pattern = it.listed.pattern;
        let condition = image::listed(&it.listed, "x.canonical").ok_or_else(|| unsaid(pattern))?;
        let message = it.message.map(|it| format!(": {it}")).unwrap_or_default();
        let said = cel::text(&format!("is denied by `{}` ({pattern}){message}", it.name));
        text.extend(["  : ", &condition, " ? ", &said, "\n"]);
        parts.exported(format!("{} {pattern}", it.name));
    }
    Ok(text)
}

fn message(policy: &Policy) -> String {
    let own = policy
        .message()
        .map(|it| format!("{it}; "))
        .unwrap_or_default();
    let places = policy.approved_places();
    let shown: Vec<_> = places.iter().take(PLACES).map(String::as_str).collect();
    let more = match places.len().saturating_sub(PLACES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let name = policy.name();
    let advice = if places.is_empty() {
        format!("; policy {name} approves no registry")
    } else {
        format!("; policy {name} approves {}{more}", shown.join(", "))
    };
    let counts: Vec<_> = (0..NAMED).map(|it| it.to_string()).collect();
    format!(
        "{own} + [{counts}].filter(n, n < size(variables.refused)).map(n, variables.refused[n]).map(x,\n  \
           (x.list == 'volumes' ? 'volume ' : 'container ') + x.name + ': image '\n  \
           + (size(x.image) > {LONGEST} ? x.image.substring(0, {LONGEST}) + '...' : x.image) + ' ' + x.why\n\
         ).join('; ') + (size(variables.refused) > {NAMED} ? '; and ' + string(size(variables.refused) - {NAMED}) + ' more' : '') + {advice}",
        own = cel::text(&own),
        counts = counts.join(", "),
        advice = cel::text(&advice),
    )
}
