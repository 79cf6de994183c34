//! One expression, and what it gives for somebody.

use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::{Context, Env, ExecutionError, Program};
use scim::Object;
use serde_json::{Value, json};

use super::unique::candidates;

/// Whom an expression is asked about.
pub(crate) struct Person<'a> {
    /// As clients see it.
    pub(crate) resource: &'a Object,
    /// What the groups are called that hold it, nested ones too.
    pub(crate) groups: &'a [String],
    pub(crate) app: &'a str,
}

/// A compiled expression.
pub(super) struct Expression {
    text: String,
    program: Program,
}

/// What an expression gives.
#[derive(Debug, PartialEq)]
pub(super) enum Evaluated {
    Value(Value),
    /// An attribute that it asks for has no value.
    Nothing,
    /// Says why, and no value.
    Failed(&'static str),
}

/// What expressions can use: the standard functions, and those for texts.
pub(super) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Env::stdlib();
        if let Err(error) = environment.add_extension(cel::extensions::strings) {
            tracing::error!(%error, "expressions lack the functions for texts");
        }
        Arc::new(environment)
    })
}

impl Person<'_> {
    /// What an expression can name.
    pub(super) fn context(&self) -> Context<'static, 'static> {
        let mut context = Context::with_env(environment().clone());
        let resource = cel::to_value(self.resource).unwrap_or(cel::Value::Null);
        for name in ["user", "resource"] {
            context.add_variable_from_value(name, resource.clone());
        }
        let groups = cel::to_value(self.groups).unwrap_or(cel::Value::Null);
        context.add_variable_from_value("groups", groups);
        let app = cel::to_value(json!({"name": self.app})).unwrap_or(cel::Value::Null);
        context.add_variable_from_value("app", app);
        context
    }
}

impl Expression {
    /// Reads an expression; what is wrong is said in a sentence.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let program = environment().compile(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.trim().to_string());
            format!("the expression cannot be read: {}", first.unwrap_or_default())
        })?;
        Ok(Self { text: text.to_string(), program })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn evaluate(&self, context: &Context<'_, '_>) -> Evaluated {
        evaluated(self.program.execute(context))
    }

    /// What the candidates of `unique(...)` give; of an expression that is something else, nothing.
    pub(super) fn candidates(&self, context: &Context<'_, '_>) -> Vec<Evaluated> {
        let candidates = candidates(self.program.expression()).unwrap_or_default();
        candidates.iter().map(|candidate| evaluated(cel::Value::resolve(candidate, context))).collect()
    }
}

fn evaluated(result: Result<cel::Value, ExecutionError>) -> Evaluated {
    match result {
        Ok(cel::Value::Null) => Evaluated::Nothing,
        Ok(value) => match value.json() {
            Ok(Value::Null) => Evaluated::Nothing,
            Ok(value) => Evaluated::Value(value),
            Err(_) => Evaluated::Failed("gives what no attribute can hold"),
        },
        // The names were checked: what is missing has no value.
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => Evaluated::Nothing,
        // The errors of the library quote values.
        Err(_) => Evaluated::Failed("cannot be evaluated"),
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
