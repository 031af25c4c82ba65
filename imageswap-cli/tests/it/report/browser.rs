//! The page in a real browser.

use super::{REPORT, day, story};
use crate::folder::Folder;
use flate2::read::ZlibDecoder;
use imageswap_lab::{Browser, ColourScheme, require};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

/// Pixels of the pictures in the documentation.
const SIZE: [u32; 2] = [1040, 960];

/// The brightness of the picture's first pixel, from 0 to 765, and its size.
fn first_pixel(png: &Path) -> (u32, [u32; 2]) {
    let bytes = fs::read(png).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let size = [number(16), number(20)];
    // The data are compressed lines; the first byte is a line's filter, and no filter changes the
    // first pixel of the first line.
    let (mut at, mut data) = (8, Vec::new());
    while at + 12 <= bytes.len() {
        let length = usize::try_from(number(at)).unwrap();
        if &bytes[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&bytes[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    let mut pixel = [0; 4];
    ZlibDecoder::new(&*data).read_exact(&mut pixel).unwrap();
    (pixel[1..].iter().map(|it| u32::from(*it)).sum(), size)
}

#[test]
fn the_page_is_shown_in_light_and_dark() {
    let browser = require!(Browser::for_test("report-page"));
    let folder = day();
    folder.write(
        "report.html",
        folder.run(&format!("{REPORT} -o html")).out(),
    );
    let page = folder.at("report.html");
    for (scheme, name, bright) in [
        (ColourScheme::Light, "report-light.png", true),
        (ColourScheme::Dark, "report-dark.png", false),
    ] {
        let picture = folder.at(name);
        browser.picture(&page, scheme, SIZE, &picture).unwrap();
        let (brightness, size) = first_pixel(&picture);
        assert_eq!(size, SIZE, "{name}");
        assert_eq!(brightness > 380, bright, "{name}: {brightness}");
        if let Some(to) = std::env::var_os("IMAGESWAP_PICTURES") {
            fs::copy(&picture, Path::new(&to).join(name)).unwrap();
        }
    }
    let document = browser.document(&page).unwrap();
    for text in [
        "81 containers ran without approval",
        "docker.io/library/nginx:1.25",
        "the agent was stopped",
    ] {
        assert!(document.contains(text), "{text}\n{document}");
    }
}

#[test]
fn a_hundred_thousand_findings_are_a_small_page() {
    let browser = require!(Browser::for_test("report-large"));
    let folder = Folder::new(&[
        ("many.jsonl", &story::many(100_000)),
        ("empty.html", "<!doctype html><title>empty</title>"),
    ]);
    let began = Instant::now();
    let ran = folder.run("report many.jsonl -o html");
    let html = ran.out();
    println!("report: {:?}, {} bytes", began.elapsed(), html.len());
    assert_eq!((ran.code(), ran.err()), (Some(1), ""));
    assert!(html.len() < 400_000, "{} bytes", html.len());
    folder.write("report.html", html);
    for (name, page) in [
        ("empty page", "empty.html"),
        ("report", "report.html"),
        ("report again", "report.html"),
    ] {
        let began = Instant::now();
        let document = browser.document(&folder.at(page)).unwrap();
        println!(
            "{name}: {:?} with the start of the browser",
            began.elapsed()
        );
        assert_eq!(
            name != "empty page",
            document.contains("50000 containers ran without approval")
        );
    }
}

/// Texts of findings stay texts: a script in one of them does not run.
#[test]
fn no_script_of_a_finding_runs() {
    let browser = require!(Browser::for_test("report-script"));
    let evil =
        "x\"'><script>document.title='obeyed'</script><svg onload=\"document.title='obeyed'\">";
    let story = story::Story {
        node: evil.to_owned(),
        image: evil.to_owned(),
        to: None,
        ..story::one("drift", "retagged")
    };
    let folder = Folder::new(&[("evil", &story.lines().join("\n"))]);
    let ran = folder.run("report evil -o html");
    let html = ran.out();
    folder.write("report.html", html);
    let document = browser.document(&folder.at("report.html")).unwrap();
    assert!(
        document.contains("<title>ImageSwap report</title>"),
        "{document}"
    );
    // The browser's own reading has no element that the report did not write.
    for element in ["<script", "<svg onload", "onload="] {
        assert_eq!(
            document.matches(element).count(),
            html.matches(element).count(),
            "{element}"
        );
    }
    assert!(!document.contains("<script"), "{document}");
}
