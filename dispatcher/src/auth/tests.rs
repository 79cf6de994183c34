//! What an app is shown, and when it is asked for anew.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::assertion::SigningKey;
use super::*;

const RSA_KEY: &str = include_str!("rs256.test.pem");

/// A token endpoint and an app behind it.
#[derive(Default)]
struct World {
    /// What the endpoint answers instead of a token.
    refusal: Mutex<Option<(u16, Value)>>,
    silent: AtomicBool,
    /// Tokens given out so far; the app takes the newest only.
    given: AtomicU64,
    asked: Mutex<Vec<(Option<HeaderValue>, String)>>,
    calls: Mutex<Vec<u16>>,
}

impl World {
    fn refuses(&self, status: u16, body: Value) {
        *self.refusal.lock().unwrap() = Some((status, body));
    }

    fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    fn asked(&self) -> (Option<HeaderValue>, String) {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    fn calls(&self) -> Vec<u16> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

#[async_trait::async_trait]
impl Transport for World {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let shown = request.headers().get(header::AUTHORIZATION).cloned();
        if request.uri().path() == "/token" {
            let form = String::from_utf8(request.body().to_vec()).unwrap();
            self.asked.lock().unwrap().push((shown, form));
            if self.silent.load(Ordering::SeqCst) {
                return Err(NoAnswer::Timeout);
            }
            if let Some((status, body)) = &*self.refusal.lock().unwrap() {
                return Ok(answer(*status, body));
            }
            let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
            let body =
                json!({"access_token": format!("t{number}"), "token_type": "Bearer", "expires_in": 100});
            return Ok(answer(200, &body));
        }
        let newest = format!("Bearer t{}", self.given());
        let status = if shown.is_some_and(|shown| shown == newest) { 200 } else { 401 };
        self.calls.lock().unwrap().push(status);
        Ok(answer(status, &Value::Null))
    }
}

fn oauth(client: ClientAuth) -> OAuth {
    OAuth {
        token_url: "http://x.test/token".parse().unwrap(),
        client_id: "roll call".to_string(),
        client,
        scope: Some("scim".to_string()),
        audience: None,
        resource: None,
    }
}

fn given(secret: &str) -> Source {
    Source::Given(Secret::new(secret))
}

fn of(client: ClientAuth) -> Authenticator {
    let scheme = Scheme::OAuth(Box::new(oauth(client)));
    Authenticator::new(&Auth { scheme, tls: Tls::default() })
}

async fn call(authenticator: &Authenticator, world: &World) -> Result<u16, NoAnswer> {
    let request = Request::builder().method(Method::GET).uri("http://x.test/Users").body(Bytes::new());
    Ok(authenticator.send(world, request.unwrap()).await?.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_for_all_and_again_before_it_ends() {
    let (world, authenticator) = (World::default(), of(ClientAuth::SecretPost(given("s"))));
    let all = futures::future::join_all((0..8).map(|_| call(&authenticator, &world))).await;
    assert_eq!((all, world.given()), (vec![Ok(200); 8], 1));
    tokio::time::advance(Duration::from_secs(70)).await;
    call(&authenticator, &world).await.unwrap();
    assert_eq!(world.given(), 1);
    tokio::time::advance(Duration::from_secs(11)).await;
    let all = futures::future::join_all((0..8).map(|_| call(&authenticator, &world))).await;
    assert_eq!((all, world.given()), (vec![Ok(200); 8], 2));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_renewed_once_and_the_call_repeated_once() {
    let (world, authenticator) = (World::default(), of(ClientAuth::SecretPost(given("s"))));
    call(&authenticator, &world).await.unwrap();
    world.calls();
    // The app forgets all tokens.
    world.given.fetch_add(1, Ordering::SeqCst);
    let all = futures::future::join_all((0..4).map(|_| call(&authenticator, &world))).await;
    assert_eq!((all, world.given()), (vec![Ok(200); 4], 3));
    assert_eq!(world.calls(), [401, 401, 401, 401, 200, 200, 200, 200]);
    // One that takes nothing is asked twice, not for ever.
    let (other, authenticator) = (World::default(), Authenticator::new(&Auth::bearer(Secret::new("wrong"))));
    assert_eq!(call(&authenticator, &other).await, Ok(401));
    assert_eq!(other.calls(), [401], "the same secret is not shown again");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_renewed_is_used_until_it_ends() {
    let (world, authenticator) = (World::default(), of(ClientAuth::SecretPost(given("s"))));
    call(&authenticator, &world).await.unwrap();
    world.silent.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(85)).await;
    assert_eq!(call(&authenticator, &world).await, Ok(200));
    assert_eq!(call(&authenticator, &world).await, Ok(200));
    assert_eq!(world.asked.lock().unwrap().len(), 2, "not for each call");
    tokio::time::advance(Duration::from_secs(16)).await;
    let refused = Err(NoAnswer::Unauthenticated(Unproven::Unreachable));
    assert_eq!(call(&authenticator, &world).await, refused);
    world.silent.store(false, Ordering::SeqCst);
    assert_eq!(call(&authenticator, &world).await, Ok(200));
}

#[track_caller]
fn refused(status: u16, body: Value, expected: Unproven) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (world, authenticator) = (World::default(), of(ClientAuth::SecretBasic(given("s"))));
        world.refuses(status, body);
        let all = futures::future::join_all((0..4).map(|_| call(&authenticator, &world))).await;
        assert_eq!(all, vec![Err(NoAnswer::Unauthenticated(expected)); 4]);
        assert_eq!(world.asked.lock().unwrap().len(), 1, "one question for all who wait");
        assert!(world.calls().is_empty());
    });
}

#[test]
fn what_the_endpoint_refuses_is_classed_and_nothing_of_it_is_repeated() {
    refused(400, json!({"error": "invalid_client", "error_description": "s"}), Unproven::InvalidClient);
    refused(401, json!({"error": "invalid_client"}), Unproven::InvalidClient);
    refused(401, Value::Null, Unproven::InvalidClient);
    refused(400, json!({"error": "invalid_scope"}), Unproven::Refused("invalid_scope"));
    refused(400, json!({"error": "Ada is not welcome"}), Unproven::Answers(400));
    refused(503, json!("secret"), Unproven::Answers(503));
    refused(200, json!({"access_token": "t", "token_type": "mac"}), Unproven::NoToken);
    refused(200, json!({"token_type": "bearer"}), Unproven::NoToken);
    refused(200, json!({"access_token": "a\nb"}), Unproven::Unsendable);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_sent_as_the_standard_says() {
    let world = World::default();
    call(&of(ClientAuth::SecretBasic(given("p:w d%"))), &world).await.unwrap();
    let (shown, form) = world.asked();
    let expected = format!("Basic {}", STANDARD.encode("roll+call:p%3Aw+d%25"));
    assert_eq!(shown.unwrap(), expected);
    assert_eq!(form, "grant_type=client_credentials&scope=scim");

    call(&of(ClientAuth::SecretPost(given("p&w"))), &world).await.unwrap();
    let (shown, form) = world.asked();
    assert_eq!(shown, None);
    assert_eq!(form, "grant_type=client_credentials&scope=scim&client_id=roll+call&client_secret=p%26w");

    call(&of(ClientAuth::Certificate), &world).await.unwrap();
    assert_eq!(world.asked().1, "grant_type=client_credentials&scope=scim&client_id=roll+call");
}

/// The claims of an assertion that was sent, after its signature was verified.
async fn assertion(pem: &str, verify: impl Fn(&[u8], &[u8])) -> (Value, Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let (world, key) = (World::default(), file.path().to_path_buf());
    let client = ClientAuth::PrivateKey { key, key_id: Some("k1".to_string()), audience: None };
    call(&of(client), &world).await.unwrap();
    let (_, form) = world.asked();
    let field = |name: &str| {
        let mut fields = url::form_urlencoded::parse(form.as_bytes());
        fields.find(|(known, _)| known == name).unwrap().1.into_owned()
    };
    assert_eq!(field("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let signed = field("client_assertion");
    let (text, signature) = signed.rsplit_once('.').unwrap();
    verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap());
    let (head, claims) = text.split_once('.').unwrap();
    let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (read(head), read(claims))
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_signed_by_an_rsa_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), RSA_KEY).unwrap();
    let Ok(SigningKey::Rsa(key)) = SigningKey::read(file.path()) else { panic!("an RSA key") };
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref().to_vec());
    let (head, claims) = assertion(RSA_KEY, |text, signature| public.verify(text, signature).unwrap()).await;
    assert_eq!(head, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("roll call"), &json!("roll call")));
    assert_eq!(claims["aud"], "http://x.test/token");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    let (_, other) = assertion(RSA_KEY, |_, _| {}).await;
    assert_ne!(claims["jti"], other["jti"], "each may be used once");
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_signed_by_an_elliptic_key() {
    let key = rcgen::KeyPair::generate().unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key_raw().to_vec());
    let pem = key.serialize_pem();
    let (head, _) = assertion(&pem, |text, signature| public.verify(text, signature).unwrap()).await;
    assert_eq!(head["alg"], "ES256");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_replaced_is_read_again_when_it_is_refused() {
    let (world, file) = (World::default(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), "t0\n").unwrap();
    let source = Source::File(file.path().to_path_buf());
    let authenticator = Authenticator::new(&Auth { scheme: Scheme::Bearer(source), tls: Tls::default() });
    assert_eq!(call(&authenticator, &world).await, Ok(200));
    world.given.store(1, Ordering::SeqCst);
    assert_eq!(call(&authenticator, &world).await, Ok(401));
    std::fs::write(file.path(), "t1\n").unwrap();
    world.calls();
    assert_eq!(call(&authenticator, &world).await, Ok(200));
    assert_eq!(world.calls(), [401, 200]);
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(call(&authenticator, &world).await, Ok(200), "it is not read for each call");
    world.given.store(2, Ordering::SeqCst);
    let unreadable = Err(NoAnswer::Unauthenticated(Unproven::Unreadable));
    assert_eq!(call(&authenticator, &world).await, unreadable);
}

#[test]
fn nothing_shows_a_secret() {
    let shown = Shown::new("Bearer hidden", None).unwrap();
    let basic = Scheme::Basic { user: "u".to_string(), password: given("hidden") };
    let oauth = oauth(ClientAuth::SecretPost(given("hidden")));
    let texts = [
        format!("{shown:?}"),
        format!("{basic:?}"),
        format!("{oauth:?}"),
        format!("{:?}", Auth::bearer(Secret::new("hidden"))),
        format!("{:?}", with(Request::new(Bytes::new()), &shown)),
    ];
    for text in texts {
        assert!(!text.contains("hidden"), "{text}");
    }
}
