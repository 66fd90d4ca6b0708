#!/usr/bin/env bash
# Fetches public collections, judgements, runs, published synthetic queries and the original prompts. See --help.
#
# Each name becomes one folder. It is built under OUTPUT/.partial and gets its place by one rename when everything in
# it is verified; OUTPUT/NAME/.verified holds the MD5 of its files. Interrupted transfers go on where they stopped.
# Written for bash 3.2 or newer, curl, tar, gzip and python3.
set -euo pipefail

beir_url=${INPARS_BEIR_URL:-https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets}
msmarco_url=${INPARS_MSMARCO_URL:-https://msmarco.z22.web.core.windows.net/msmarcoranking}
hub_url=${INPARS_HUB_URL:-https://huggingface.co}
trec_url=${INPARS_TREC_URL:-https://trec.nist.gov/data/deep}
run_url=${INPARS_RUN_URL:-https://storage.googleapis.com/duobert_git}
v1_url=${INPARS_V1_URL:-https://zav-public.s3.amazonaws.com/inpars}
prompts_url=${INPARS_PROMPTS_URL:-https://raw.githubusercontent.com/zetaalphavector/InPars/9865521663324f8fa63f759f071ca38bdeabb3f5}

usage() {
  cat <<'END'
usage: bash download_data.sh [--output FOLDER] NAME...
       bash download_data.sh --list

names
  msmarco-passage               collection (8.8M passages, 3 GB), dev small queries and judgements, BM25 top 1000 run
  msmarco-dl19, msmarco-dl20    queries and judgements of TREC Deep Learning 2019 and 2020, over the same collection
  beir/DATASET                  a BEIR collection with queries and judgements
  bm25-run/DATASET              the BM25 run of a BEIR collection that the InPars papers rerank
  inpars-v1-prompts             the prompt files of InPars v1 and of its toolkit
  inpars-v1-synthetic/DATASET   the synthetic queries published with InPars v1 (100,000 each)
  inpars-synthetic/DATASET      the synthetic queries published with InPars v2, all and filtered

options
  --output FOLDER   where the folders go (default: data)
  --list            all names, one a line
  --help            this text

What is there and verified is skipped; what was interrupted goes on where it stopped. Files are checked against the
published MD5, or where there is none against the size the server states. The licences of the data are its owners'.
Other servers: INPARS_BEIR_URL, INPARS_MSMARCO_URL, INPARS_HUB_URL, INPARS_TREC_URL, INPARS_RUN_URL, INPARS_V1_URL,
INPARS_PROMPTS_URL.
END
}

# The MD5 sums that BEIR publishes beside its archives.
beir_sums() {
  cat <<'END'
arguana 8ad3e3c2a5867cdced806d6503f29b99
climate-fever 8b66f0a9126c521bae2bde127b4dc99d
cqadupstack 4e41456d7df8ee7760a7f866133bda78
dbpedia-entity c2a39eb420a3164af735795df012ac2c
fever 5a818580227bfb4b35bb6fa46d9b6c03
fiqa 17918ed23cd04fb15047f73e6c3bd9d9
hotpotqa f412724f78b0d91183a0e86805e16114
msmarco 444067daf65d982533ea17ebd59501e4
nfcorpus a89dba18a62ef92f7d323ec890a0d38d
nq d4d3d2e48787a744b6f6e691ff534307
quora 18fb154900ba42a600f84b839c173167
scidocs 38121350fc3a4d2f48850f6aff52e4a9
scifact 5f7d1de60b170fc8027bb7898e2efca1
trec-covid ce62140cb23feb9becf6270d0d1fe6d1
webis-touche2020 46f650ba5a527fc69e0a6521c5a23563
END
}

run_datasets="arguana bioasq climate-fever dbpedia-entity fever fiqa hotpotqa nfcorpus nq quora robust04 scidocs scifact
  signal1m trec-covid trec-news webis-touche2020"
v1_datasets="arguana bioasq climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora robust04
  scidocs scifact signal trec-covid trec-news webis-touche2020"
v2_datasets="arguana climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora robust04
  scidocs scifact signal trec-covid trec-news webis-touche2020"

list_names() {
  local dataset
  printf '%s\n' msmarco-passage msmarco-dl19 msmarco-dl20 inpars-v1-prompts
  beir_sums | sed 's|^\([^ ]*\) .*|beir/\1|'
  for dataset in $run_datasets; do echo "bm25-run/$dataset"; done
  for dataset in $v1_datasets; do echo "inpars-v1-synthetic/$dataset"; done
  for dataset in $v2_datasets; do echo "inpars-synthetic/$dataset"; done
}

say() { echo "download_data: $*" >&2; }

die() {
  say "$*"
  exit 1
}

# md5 FILE | unzip ARCHIVE FOLDER | seal FOLDER (writes .verified) | check FOLDER (fails unless .verified still holds)
python_helper() {
  python3 - "$@" <<'END'
import hashlib, pathlib, stat, sys, zipfile

def md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".verified")

def unzip(archive, folder):
    try:
        with zipfile.ZipFile(archive) as source:
            for entry in source.infolist():
                parts = pathlib.PurePosixPath(entry.filename.replace("\\", "/")).parts
                outside = not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]
                if outside or stat.S_ISLNK(entry.external_attr >> 16):
                    sys.exit(f"download_data: {archive}: entry {entry.filename!r} would leave the folder; refused")
            source.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        sys.exit(f"download_data: {archive}: not a whole zip archive ({error}); remove it and run the same command again")

def seal(folder):
    lines = [f"{md5(path)}  {path.relative_to(folder).as_posix()}\n" for path in files(folder)]
    (folder / ".verified").write_text("".join(lines), encoding="utf-8")

def holds(folder):
    lines = (folder / ".verified").read_text(encoding="utf-8").splitlines()
    sums = [line.split("  ", 1) for line in lines]
    return bool(sums) and all((folder / name).is_file() and md5(folder / name) == known for known, name in sums)

action, first = sys.argv[1], pathlib.Path(sys.argv[2])
if action == "md5":
    print(md5(first))
elif action == "unzip":
    unzip(first, sys.argv[3])
elif action == "seal":
    seal(first)
elif action == "check":
    sys.exit(not holds(first))
END
}

bytes_of() { if [ -e "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

# curl with what all transfers share.
quiet_curl() { curl --silent --location --proto '=http,https' --connect-timeout 20 --retry 3 "$@"; }

# One clear line for a transfer that failed. Arguments: curl's exit status, HTTP status, URL, file.
explain() {
  local host=${3#*://}
  case $1 in
    5 | 6 | 7) die "no network: ${host%%/*} cannot be reached (curl $1); check the connection and run the same command again" ;;
    22) die "$3: the server answered HTTP $2; if that stays so the file was moved" ;;
    23) die "$4: cannot be written; free some space or choose another --output" ;;
    *) die "$3: the transfer broke off (curl $1); run the same command again, it goes on where it stopped" ;;
  esac
}

# The size a server states for a URL, after redirections; empty where it states none.
stated_size() {
  local headers status=0
  headers=$(quiet_curl --fail --head "$1") || status=$?
  case $status in 5 | 6 | 7) explain "$status" 000 "$1" - ;; esac
  tr -d '\r' <<<"$headers" | awk 'tolower($1) ~ /^http\// { size = "" } tolower($1) == "content-length:" { size = $2 } END { print size }'
}

# Arguments: URL, file with its beginning, further curl arguments. Prints the HTTP status.
transfer() {
  local url=$1 part=$2
  shift 2
  quiet_curl --fail --output "$part" --write-out '%{http_code}' "$@" "$url"
}

# Arguments: URL, file, published MD5 or "-". A file has its name only once it is whole and verified.
fetch() {
  local url=$1 file=$2 md5=$3 part=$2.part size http status=0
  [ ! -e "$file" ] || return 0
  mkdir -p "$(dirname "$file")"
  size=$(stated_size "$url")
  if [ ! -s "$part" ] || [ "$(bytes_of "$part")" != "$size" ]; then
    say "fetching $url${size:+ ($size bytes)}"
    http=$(transfer "$url" "$part" --continue-at -) || status=$?
    if [ -s "$part" ] && { [ "$status" = 33 ] || [ "$status" = 36 ] || [ "${http:-}" = 416 ]; }; then
      rm -f "$part" # the server cannot resume, or what is here is longer than its file
      status=0
      http=$(transfer "$url" "$part") || status=$?
    fi
    [ "$status" = 0 ] || explain "$status" "${http:-000}" "$url" "$part"
  fi
  verify "$part" "$md5" "$size" "$url"
  mv "$part" "$file"
}

verify() {
  local found
  if [ "$2" = - ]; then
    found=$(bytes_of "$1")
    [ -z "$3" ] || [ "$found" = "$3" ] || { rm -f "$1"; die "$4: $found bytes came, the server states $3; run the same command again"; }
    return
  fi
  found=$(python_helper md5 "$1")
  [ "$found" = "$2" ] || { rm -f "$1"; die "$4: MD5 is $found, published is $2; the file was removed, run the same command again"; }
}

# The functions below fill $result from downloads kept in $downloads.

get_msmarco_passage() {
  fetch "$msmarco_url/collectionandqueries.tar.gz" "$downloads/collectionandqueries.tar.gz" 31644046b18952c1386cd4564ba2ae69
  fetch "$run_url/run.bm25.dev.small.tsv" "$downloads/run.tsv" -
  mkdir "$result/qrels"
  tar -xzf "$downloads/collectionandqueries.tar.gz" -C "$result" collection.tsv queries.dev.small.tsv qrels.dev.small.tsv
  mv "$result/queries.dev.small.tsv" "$result/queries.tsv"
  mv "$result/qrels.dev.small.tsv" "$result/qrels/dev.tsv"
  # query, document, rank become a TREC run whose scores fall with the rank
  awk 'NF != 3 { exit 1 } { print $1, "Q0", $2, $3, 1001 - $3, "BM25" }' "$downloads/run.tsv" >"$result/run.bm25.dev.small.trec" ||
    die "$run_url/run.bm25.dev.small.tsv: not three columns (query, document, rank)"
}

get_msmarco_dl() { # YEAR, MD5 of the queries, MD5 of the judgements
  fetch "$msmarco_url/msmarco-test$1-queries.tsv.gz" "$downloads/queries.tsv.gz" "$2"
  fetch "$trec_url/$1qrels-pass.txt" "$downloads/qrels.txt" "$3"
  gzip -dc "$downloads/queries.tsv.gz" >"$result/queries.tsv"
  cp "$downloads/qrels.txt" "$result/qrels.trec"
}

get_beir() {
  local md5
  md5=$(beir_sums | awk -v name="$1" '$1 == name { print $2 }')
  fetch "$beir_url/$1.zip" "$downloads/$1.zip" "$md5"
  mkdir -p "$downloads/unpacked"
  python_helper unzip "$downloads/$1.zip" "$downloads/unpacked"
  [ -d "$downloads/unpacked/$1" ] || die "$beir_url/$1.zip: no folder $1 inside"
  rmdir "$result"
  mv "$downloads/unpacked/$1" "$result"
}

get_bm25_run() {
  fetch "$hub_url/datasets/unicamp-dl/beir-runs/resolve/main/bm25/run.beir-v1.0.0-$1-flat.trec" "$downloads/run.trec" -
  cp "$downloads/run.trec" "$result/run.bm25.trec"
}

get_v1_prompts() {
  fetch "$prompts_url/legacy/inpars-v1/prompts/vanilla_prompt.txt" "$downloads/vanilla_prompt.txt" e83c838669d9f4b52f03b225fa8b2449
  fetch "$prompts_url/legacy/inpars-v1/prompts/gbq_prompt.txt" "$downloads/gbq_prompt.txt" af298c3b6ada9636c00c464220d88936
  fetch "$prompts_url/inpars/prompts/templates.yaml" "$downloads/templates.yaml" 3f08dd5679e8463b022dd431d6f2414b
  cp "$downloads"/*prompt.txt "$downloads/templates.yaml" "$result"
}

get_v1_synthetic() {
  local stem=${1//-/_}
  case $1 in
    dbpedia-entity) stem=dbpedia ;;
    scifact) stem=scifacts ;;
    webis-touche2020) stem=touche ;;
  esac
  fetch "$v1_url/${stem}_synthetic_queries_100k.jsonl" "$downloads/queries.jsonl" -
  cp "$downloads/queries.jsonl" "$result/queries.synthetic.jsonl"
}

get_v2_synthetic() {
  local folder=$hub_url/datasets/inpars/generated-data/resolve/main/$1
  fetch "$folder/queries.jsonl" "$downloads/queries.jsonl" -
  fetch "$folder/queries_filtered_v2.jsonl" "$downloads/filtered.jsonl" -
  cp "$downloads/queries.jsonl" "$result/queries.synthetic.jsonl"
  cp "$downloads/filtered.jsonl" "$result/queries.filtered.jsonl"
}

fill() {
  case $1 in
    msmarco-passage) get_msmarco_passage ;;
    msmarco-dl19) get_msmarco_dl 2019 eda71eccbe4d251af83150abe065368c 2f4be390198da108f6845c822e5ada14 ;;
    msmarco-dl20) get_msmarco_dl 2020 00a406fb0d14ed3752d70d1e4eb98600 0355ccee7509ac0463e8278186cdd8d1 ;;
    beir/*) get_beir "${1#*/}" ;;
    bm25-run/*) get_bm25_run "${1#*/}" ;;
    inpars-v1-prompts) get_v1_prompts ;;
    inpars-v1-synthetic/*) get_v1_synthetic "${1#*/}" ;;
    inpars-synthetic/*) get_v2_synthetic "${1#*/}" ;;
  esac
}

get() {
  local folder=$output/$1 work=$output/.partial/$1
  downloads=$work/downloads result=$work/result
  if [ -e "$folder/.verified" ] && python_helper check "$folder"; then
    say "$1: already in $folder and verified, skipped"
    return
  fi
  if [ -e "$folder" ] && [ ! -e "$folder/.verified" ]; then
    die "$folder: exists and was not made by this script; move it away or choose another --output"
  fi
  rm -rf -- "${work:?}/result" "${work:?}/former" "${work:?}/downloads/unpacked"
  mkdir -p "$downloads" "$result" "$(dirname "$folder")"
  fill "$1"
  python_helper seal "$result"
  [ ! -e "$folder" ] || mv "$folder" "$work/former"
  mv "$result" "$folder"
  rm -rf -- "${work:?}"
  rmdir -p -- "$(dirname "$work")" 2>/dev/null || true
  say "$1: in $folder"
}

output=data
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --list) list_names; exit 0 ;;
    --output) [ $# -gt 1 ] || die "--output needs a folder"; output=$2; shift ;;
    --output=*) output=${1#*=} ;;
    -*) die "unknown option $1; see --help" ;;
    *) names+=("$1") ;;
  esac
  shift
done

[ ${#names[@]} -gt 0 ] || die "name what to fetch; --list shows all names"
known=$(list_names)
unknown=()
for name in "${names[@]}"; do
  grep -qxF -- "$name" <<<"$known" || unknown+=("$name")
done
[ ${#unknown[@]} -eq 0 ] || die "unknown: ${unknown[*]}; --list shows all names"
for tool in curl python3 tar gzip; do
  command -v "$tool" >/dev/null || die "$tool is needed and was not found; install it first"
done
case $output in -*) output=./$output ;; esac # never an option of the tools below
mkdir -p "$output" 2>/dev/null || die "$output: cannot be made; choose another --output"
for name in "${names[@]}"; do
  get "$name"
done
