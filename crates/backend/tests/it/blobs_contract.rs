use bytes::Bytes;
use futures_util::stream;
use postrider_backend::blobs::{BlobError, Blobs, Order, S3Options};
use postrider_core::secret::Secret;
use postrider_egress::client_config;
use postrider_test_servers::S3;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test] async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(super::Blobs::open(&dir.path().join("blobs")).unwrap()).await
            })*
        }
        mod on_s3 {
            $(#[tokio::test] async fn $name() {
                let server = super::S3::start().await;
                super::$name(super::Blobs::s3(super::options(&server, "some/where")).await.unwrap()).await
            })*
        }
    };
}

contract! {
    a_blob_is_read_as_it_was_written,
    of_many_that_write_a_new_blob_one_is_first,
    a_part_of_a_blob_is_read,
    a_stream_that_breaks_off_changes_nothing,
    a_deleted_blob_is_gone,
    a_folder_goes_with_all_that_is_in_it,
    names_are_listed_in_order_and_no_more_than_asked_for,
    a_name_can_not_lead_elsewhere,
}

fn options(server: &S3, prefix: &str) -> S3Options {
    S3Options {
        bucket: S3::BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(server.endpoint()),
        region: None,
        key: Some((S3::KEY_ID.to_owned(), Secret::new(S3::KEY))),
        tls: client_config(Some(&server.certificates().authority())).unwrap(),
    }
}

#[tokio::test]
async fn a_bucket_that_can_not_be_used_says_why() {
    let mut server = S3::start().await;
    let words = async |options: S3Options| {
        let words = Blobs::s3(options).await.unwrap_err().to_string();
        assert!(words.contains("can't be used") && words.len() < 700 && !words.contains(S3::KEY), "{words}");
        words
    };
    let usual = || options(&server, "");
    let key = |id: &str, key: &str| Some((id.to_owned(), Secret::new(key)));
    let missing = words(S3Options { bucket: "nobodys".to_owned(), ..usual() }).await;
    assert!(missing.contains("`nobodys`") && missing.contains("NoSuchBucket: "), "{missing}");
    for wrong in [key(S3::KEY_ID, "wrong"), key("nobody", S3::KEY)] {
        let denied = words(S3Options { key: wrong, ..usual() }).await;
        assert!(denied.contains("SignatureDoesNotMatch: ") || denied.contains("access key ID"), "{denied}");
    }
    let strange = words(S3Options { tls: client_config(None).unwrap(), ..usual() }).await;
    assert!(strange.contains("certificate"), "{strange}");
    Blobs::s3(usual()).await.unwrap();
    let options = usual();
    server.kill();
    let gone = words(options).await;
    assert!(gone.contains(&server.endpoint()), "{gone}");
}

#[tokio::test]
async fn what_a_server_of_s3_kept_is_there_after_its_end() {
    let mut server = S3::start().await;
    let blobs = Blobs::s3(options(&server, "a")).await.unwrap();
    blobs.put("x", Bytes::from("kept")).await.unwrap();
    server.kill();
    // In another task than the one that waits for it, as two processes would be.
    let asking = tokio::spawn({
        let blobs = blobs.clone();
        async move {
            loop {
                match blobs.get("x").await {
                    Err(BlobError::Unavailable(_)) => {}
                    other => return other,
                }
            }
        }
    });
    server.restart().await;
    assert_eq!(asking.await.unwrap().unwrap(), "kept");
    assert_eq!(server.count("a"), 2, "what is kept, and what was checked with");
}

async fn of_many_that_write_a_new_blob_one_is_first(blobs: Blobs) {
    let writes = (0..8_u8).map(|n| {
        let blobs = blobs.clone();
        async move { (n, blobs.put_new("jobs/one/new.json", Bytes::from(vec![n; 1000])).await.unwrap()) }
    });
    let written = futures_util::future::join_all(writes).await;
    let first: Vec<u8> = written.iter().filter(|(_, was_first)| *was_first).map(|(n, _)| *n).collect();
    assert_eq!(first.len(), 1, "{written:?}");
    assert_eq!(blobs.get("jobs/one/new.json").await.unwrap(), vec![first[0]; 1000]);
}

async fn a_blob_is_read_as_it_was_written(blobs: Blobs) {
    blobs.put("jobs/a.wav", Bytes::from("one")).await.unwrap();
    blobs.put("jobs/a.wav", Bytes::from("three")).await.unwrap();
    assert_eq!(blobs.get("jobs/a.wav").await.unwrap(), "three");
    let part = Bytes::from(vec![7; 3 << 20]);
    let parts = (0..5).map(|_| Ok::<_, std::io::Error>(part.clone()));
    blobs.put_stream("jobs/large", stream::iter(parts)).await.unwrap();
    assert_eq!(blobs.size("jobs/large").await.unwrap(), 15 << 20);
    assert!(blobs.get("jobs/large").await.unwrap().iter().all(|byte| *byte == 7));
}

async fn a_part_of_a_blob_is_read(blobs: Blobs) {
    blobs.put("x", Bytes::from("0123456789")).await.unwrap();
    assert_eq!(blobs.get_range("x", 2..5).await.unwrap(), "234");
    assert_eq!(blobs.get_range("x", 8..100).await.unwrap(), "89");
    assert!(matches!(blobs.get_range("x", 3..3).await, Err(BlobError::Invalid { .. })));
}

async fn a_stream_that_breaks_off_changes_nothing(blobs: Blobs) {
    blobs.put("x", Bytes::from("old")).await.unwrap();
    let parts = [Ok(Bytes::from(vec![1; 6 << 20])), Err("the line went dead")];
    let error = blobs.put_stream("x", stream::iter(parts)).await.expect_err("it broke off");
    assert!(error.to_string().contains("the line went dead"), "{error}");
    assert_eq!(blobs.get("x").await.unwrap(), "old");
}

async fn a_deleted_blob_is_gone(blobs: Blobs) {
    blobs.put("x", Bytes::from("old")).await.unwrap();
    blobs.delete("x").await.unwrap();
    assert!(matches!(blobs.get("x").await, Err(BlobError::Missing { .. })));
    blobs.delete("x").await.unwrap();
}

async fn a_folder_goes_with_all_that_is_in_it(blobs: Blobs) {
    assert!(blobs.folders("jobs").await.unwrap().is_empty());
    for name in ["jobs/1/a", "jobs/1/b/c", "jobs/12/a", "jobs/d", "jobs-1/a"] {
        blobs.put(name, Bytes::from("x")).await.unwrap();
    }
    assert_eq!(blobs.folders("jobs").await.unwrap(), ["jobs/1", "jobs/12"]);
    assert_eq!(blobs.delete_folder("jobs/1").await.unwrap(), 2);
    assert_eq!(blobs.delete_folder("jobs/1").await.unwrap(), 0);
    assert_eq!(blobs.folders("jobs").await.unwrap(), ["jobs/12"]);
    assert_eq!(blobs.get("jobs-1/a").await.unwrap(), "x");
}

async fn names_are_listed_in_order_and_no_more_than_asked_for(blobs: Blobs) {
    let names = async |order, most| blobs.names("a", order, most, |name| name != "4").await.unwrap();
    assert_eq!(names(Order::Ascending, 9).await, [""; 0], "a folder that does not exist is empty");
    for name in ["a/3", "a/1", "a/4", "a/2", "ab/5", "5"] {
        blobs.put(name, Bytes::new()).await.unwrap();
    }
    assert_eq!(names(Order::Ascending, 2).await, ["1", "2"]);
    assert_eq!(names(Order::Descending, 2).await, ["3", "2"]);
    assert_eq!(names(Order::Ascending, 9).await, ["1", "2", "3"]);
}

async fn a_name_can_not_lead_elsewhere(blobs: Blobs) {
    for name in ["../x", "a/../../x", "/etc/passwd", "a//b"] {
        let refused = blobs.put(name, Bytes::new()).await;
        assert!(matches!(refused, Err(BlobError::Invalid { .. })) || name.starts_with('/'), "{name}");
    }
}
