//! Reads files of findings line by line: plain, or compressed with gzip or zstd.

use super::record::{Record, Text, read};
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Longest line; a finding has a few kilobytes.
const LONGEST_LINE: u64 = 1 << 20;

/// Problems of a file that are listed; more are only counted.
const MOST_LISTED: usize = 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a file held.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileSummary {
    /// The path as given.
    pub(super) name: String,
    /// Number of findings about containers.
    pub(super) findings: u64,
    /// Number of records of agents about themselves.
    pub(super) agent_records: u64,
    /// Lines of something else, such as the agent's log.
    pub(super) foreign_lines: u64,
    /// The first of them.
    pub(super) first_foreign_line: Option<u64>,
    /// Number of problems.
    pub(super) problems: u64,
    /// The first problems.
    pub(super) listed: Vec<Problem>,
}

/// A part of a file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// The line; none if it is about the whole file.
    pub(super) line: Option<u64>,
    /// What is wrong.
    pub(super) what: String,
}

impl FileSummary {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            findings: 0,
            agent_records: 0,
            foreign_lines: 0,
            first_foreign_line: None,
            problems: 0,
            listed: Vec::new(),
        }
    }

    fn problem(&mut self, line: Option<u64>, what: impl Into<String>) {
        self.problems += 1;
        if self.listed.len() < MOST_LISTED {
            let what = what.into();
            self.listed.push(Problem { line, what });
        }
    }
}

/// Reads a file, or standard input for `-`. What cannot be read is in the summary.
pub(super) fn read_file(path: &Path, take: &mut impl FnMut(Record)) -> FileSummary {
    if path.as_os_str() == "-" {
        let mut summary = FileSummary::new("standard input");
        read_stream(io::stdin().lock(), &mut summary, take);
        return summary;
    }
    let mut summary = FileSummary::new(&path.display().to_string());
    match File::open(path) {
        Ok(file) => read_stream(file, &mut summary, take),
        Err(error) => summary.problem(None, format!("cannot be opened: {error}")),
    }
    summary
}

fn read_stream(stream: impl Read, summary: &mut FileSummary, take: &mut impl FnMut(Record)) {
    let mut stream = BufReader::new(stream);
    let start = match stream.fill_buf() {
        Ok(start) => start,
        Err(error) => return summary.problem(None, format!("cannot be read: {error}")),
    };
    if start.starts_with(&GZIP) {
        read_lines(BufReader::new(MultiGzDecoder::new(stream)), summary, take);
    } else if start.starts_with(&ZSTD) {
        read_lines(BufReader::new(Frames::new(stream)), summary, take);
    } else {
        read_lines(stream, summary, take);
    }
    if summary.findings + summary.agent_records == 0 && summary.problems == 0 {
        summary.problem(None, "has no findings of an agent");
    }
}

fn read_lines(mut lines: impl BufRead, summary: &mut FileSummary, take: &mut impl FnMut(Record)) {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut part = (&mut lines).take(LONGEST_LINE);
        let read_bytes = match part.read_until(b'\n', &mut line) {
            Ok(read_bytes) => read_bytes,
            Err(error) => {
                summary.problem(
                    Some(number),
                    format!("the file cannot be read further: {error}"),
                );
                0
            }
        };
        if line.is_empty() {
            return;
        }
        let is_whole = line.ends_with(b"\n");
        if !is_whole && read_bytes as u64 == LONGEST_LINE {
            let what = format!("the line is longer than {} MiB", LONGEST_LINE >> 20);
            summary.problem(Some(number), what);
            if skip_line(&mut lines).is_err() {
                return;
            }
            continue;
        }
        match read(&line) {
            Text::Record(record) => {
                match *record {
                    Record::Finding(_) => summary.findings += 1,
                    Record::Agent(_) => summary.agent_records += 1,
                }
                take(*record);
            }
            Text::Empty => {}
            Text::Foreign => {
                summary.foreign_lines += 1;
                summary.first_foreign_line.get_or_insert(number);
            }
            Text::Damaged(_) if !is_whole => {
                summary.problem(
                    Some(number),
                    "the finding is cut off at the end of the file",
                );
            }
            Text::Damaged(why) => summary.problem(Some(number), why),
        }
    }
}

fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        lines.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// The frames of a zstd file, one after another, as `zstd` and log rotation append them.
struct Frames<R: BufRead> {
    /// Between two frames.
    stream: Option<R>,
    frame: Option<Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>>,
}

impl<R: BufRead> Frames<R> {
    fn new(stream: R) -> Self {
        Self {
            stream: Some(stream),
            frame: None,
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.stream = Some(frame.into_inner());
            }
            let Some(mut stream) = self.stream.take() else {
                return Ok(0);
            };
            if stream.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(stream);
            let frame =
                frame.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::sample;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn summary(bytes: &[u8]) -> (FileSummary, usize) {
        let mut summary = FileSummary::new("f");
        let mut taken = 0;
        read_stream(bytes, &mut summary, &mut |_| taken += 1);
        (summary, taken)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn compressed_files_are_read_in_all_their_parts() {
        let text = format!("{}\n{}\n", sample("start"), sample("stopped"));
        let text = text.as_bytes();
        for bytes in [text.repeat(2), gzip(text).repeat(2), zstd(text).repeat(2)] {
            let (summary, taken) = summary(&bytes);
            assert_eq!((summary.findings, taken), (4, 4), "{summary:?}");
            assert_eq!(summary.problems, 0, "{summary:?}");
        }
    }

    #[test]
    fn a_cut_off_file_counts_up_to_the_cut() {
        let text = format!("{}\n", sample("start")).repeat(2000);
        for whole in [
            text.clone().into_bytes(),
            gzip(text.as_bytes()),
            zstd(text.as_bytes()),
        ] {
            let (summary, taken) = summary(&whole[..whole.len() - 10]);
            assert!(summary.problems >= 1 && taken > 0, "{taken} {summary:?}");
            assert!(summary.listed[0].line > Some(1), "{summary:?}");
        }
    }

    #[test]
    fn what_is_not_a_finding_is_reported_with_its_line() {
        let good = sample("start");
        let text = format!(
            "INFO probes attached\n{good}\n{{\"a\":1}}\n\n{}\n2026-11-28T10:00:00Z stdout F {good}\n{}",
            &good[20..],
            &good[..good.len() / 2]
        );
        let (summary, taken) = summary(text.as_bytes());
        assert_eq!((taken, summary.findings, summary.foreign_lines), (2, 2, 2));
        assert_eq!(summary.first_foreign_line, Some(1));
        let lines: Vec<_> = summary.listed.iter().map(|it| it.line).collect();
        assert_eq!(lines, [Some(5), Some(7)], "{summary:?}");
    }

    #[test]
    fn a_long_line_is_left_out_and_the_next_one_read() {
        let limit = usize::try_from(LONGEST_LINE).unwrap();
        for length in [limit - 1, limit, limit + 1, 3 * limit] {
            let text = format!("{}\n{}\n", "x".repeat(length), sample("start"));
            let (summary, taken) = summary(text.as_bytes());
            assert_eq!(taken, 1, "{length}");
            let is_long = length >= limit;
            assert_eq!(
                summary.problems,
                u64::from(is_long),
                "{length}: {summary:?}"
            );
        }
    }

    #[test]
    fn a_file_without_findings_is_a_problem() {
        for bytes in [
            &b""[..],
            b"hello\n",
            b"\x1f\x8bnot gzip",
            b"\x28\xb5\x2f\xfdnot zstd",
        ] {
            let (summary, _) = summary(bytes);
            assert_eq!(summary.problems, 1, "{bytes:?}: {summary:?}");
        }
    }
}
