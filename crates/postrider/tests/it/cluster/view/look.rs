//! All that a tenant can look at.

use postrider_core::id::{DeliveryId, EndpointId, Uid};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::story::Story;
use crate::world::{Api, answer};

const STATES: [&str; 4] = ["pending", "succeeded", "failed", "canceled"];
/// Items of a page, from all at once to one by one.
const LIMITS: [usize; 3] = [250, 7, 3];

/// A tenant's whole view, in the names of the story.
pub(super) async fn look(api: &Api, story: &Story<'_>) -> Value {
    let looked = Look { api, story, seen: Map::new() };
    looked.whole().await
}

struct Look<'a> {
    api: &'a Api,
    story: &'a Story<'a>,
    seen: Map<String, Value>,
}

impl Look<'_> {
    async fn whole(mut self) -> Value {
        let names = &self.story.names;
        let events: Vec<Uid> = names.events().map(|(id, _)| id).collect();
        let endpoints: Vec<EndpointId> = names.endpoints().map(|(id, _)| id).collect();
        let time = self.story.midway.clone();

        for query in [
            "",
            "?type=order.created",
            "?type=webhook.delivery.exhausted",
            "?type=none",
            &format!("?since={time}"),
            &format!("?until={time}"),
        ] {
            self.list("/v1/events", query, "events").await;
        }
        for event in &events {
            self.one(&format!("/v1/events/{event}")).await;
        }
        for given in ["given-1", "in-a-batch", "ce-structured", "ce-binary", "nothing"] {
            self.one(&format!("/v1/events/{given}")).await;
        }

        let mut queries = vec![String::new(), "?type=order.created".to_owned(), format!("?since={time}"), format!("?until={time}")];
        queries.extend(STATES.iter().map(|status| format!("?status={status}")));
        queries.extend(STATES.iter().map(|status| format!("?status={status}&type=hold.b&since={time}")));
        for endpoint in &endpoints {
            queries.push(format!("?webhook={endpoint}"));
            // Every endpoint of the large fan-out is like the first.
            if !names.is_one_of_many(*endpoint) {
                queries.extend(STATES.iter().map(|status| format!("?webhook={endpoint}&status={status}")));
            }
        }
        for query in &queries {
            self.list("/v1/deliveries", query, "deliveries").await;
        }
        for delivery in self.story.deliveries(self.api).await {
            self.one(&format!("/v1/deliveries/{delivery}")).await;
        }
        self.one(&format!("/v1/deliveries/{}", DeliveryId { event: events[0], endpoint: endpoints[0] })).await;
        self.one("/v1/deliveries/dlv_none").await;
        self.list("/v1/dead-letters", "", "dead_letters").await;

        self.list("/v1/webhooks", "", "webhooks").await;
        for endpoint in &endpoints {
            let path = format!("/v1/webhooks/{endpoint}");
            self.one(&path).await;
            self.one(&format!("{path}/stats")).await;
            self.list(&format!("{path}/attempts"), "", "attempts").await;
        }
        Value::Object(self.seen)
    }

    /// What is at `path`, be it an error.
    async fn one(&mut self, path: &str) {
        let (status, body) = self.ask(path).await;
        self.note(path, json!({ "status": status, "body": body }));
    }

    /// A list, page by page; the larger pages hold what the smaller ones hold.
    async fn list(&mut self, path: &str, query: &str, member: &str) {
        let mut whole = None;
        for limit in LIMITS {
            let (mut items, mut sizes, mut after) = (Vec::new(), Vec::new(), None::<String>);
            loop {
                let sign = if query.is_empty() { '?' } else { '&' };
                let cursor = after.map(|after| format!("&after={after}")).unwrap_or_default();
                let (status, mut page) = self.ask(&format!("{path}{query}{sign}limit={limit}{cursor}")).await;
                let Value::Array(found) = page[member].take() else {
                    return self.note(&format!("{path}{query}"), json!({ "status": status, "body": page }));
                };
                sizes.push(found.len());
                items.extend(found);
                after = page["next"].as_str().map(str::to_owned);
                if after.is_none() {
                    break;
                }
            }
            let count = items.len();
            match &whole {
                None => whole = Some(items),
                Some(whole) => assert_eq!(*whole, items, "{path}{query} in pages of {limit}"),
            }
            self.note(&format!("{path}{query} in pages of {limit}"), json!({ "items": count, "pages": sizes }));
        }
        self.note(&format!("{path}{query}"), whole.unwrap_or_default().into());
    }

    async fn ask(&self, path: &str) -> (u16, Value) {
        let (status, body) = answer(self.api.request(Method::GET, path)).await;
        (status.as_u16(), body)
    }

    fn note(&mut self, path: &str, value: Value) {
        let names = &self.story.names;
        let Value::String(path) = names.told(&path.replace(&self.story.midway, "midway").into()) else { unreachable!("a text stays one") };
        self.seen.insert(path, names.told(&value));
    }
}
