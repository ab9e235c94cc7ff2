//! The description against the server.

use serde_json::Value;

use crate::world::{World, ok};

#[tokio::test]
async fn the_description_is_public_and_every_operation_in_it_is_served() {
    let world = World::new().await;
    let response = world.client.get(format!("http://{}/openapi.json", world.address)).send().await.unwrap();
    let description = ok(response, 200).await;
    assert_eq!(description, serde_json::to_value(postrider_api::openapi()).unwrap());
    for (path, item) in description["paths"].as_object().unwrap() {
        let real = path.replace("{id}", "x");
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            if real.ends_with("/stream") {
                continue; // It would not end.
            }
            let response = world.request(&method.to_uppercase(), &real).send().await.unwrap();
            let status = response.status().as_u16();
            assert_ne!(status, 405, "{method} {path}");
            assert!(status < 500, "{method} {path}");
            let described: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
            assert!(described.iter().any(|known| **known == status.to_string()), "{method} {path} answered {status}");
            let text = response.text().await.unwrap();
            assert!(!text.contains("nothing is served"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_front_page_says_what_is_served() {
    let world = World::new().await;
    let response = world.client.get(format!("http://{}/", world.address)).send().await.unwrap();
    assert_eq!(ok(response, 200).await["openapi"], Value::from("/openapi.json"));
}

#[test]
fn whatever_begins_a_job_may_say_who_is_told() {
    let description = serde_json::to_value(postrider_api::openapi()).unwrap();
    for input in ["JobInput", "EvaluateInput", "TtsInput", "BatchInput"] {
        for member in ["webhook_url", "webhook_urls", "webhook", "webhooks", "priority", "metadata"] {
            assert!(description["components"]["schemas"][input]["properties"][member].is_object(), "{input} has no {member}");
        }
    }
}
