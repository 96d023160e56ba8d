"""The dashboard and the alert rules, fed by the metrics of a real server after real requests."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bincount.client import count_bins
from tests.processes import free_ports
from tests.serving.versions import PHOTOS, get, name, register_version, serving, wait_until
from tests.stores import make_settings

SERVER = Path(__file__).parents[2] / "server"
TOKEN = "t" * 44
OF_PROMETHEUS = {"up": {"job": {"model-server"}, "instance": {"m"}}}
"""What Prometheus adds itself."""
TOOLS = {tool: shutil.which(tool) for tool in ("prometheus", "promtool")}
needs_prometheus = pytest.mark.skipif(None in TOOLS.values(), reason="no Prometheus here (Debian: prometheus)")


def panels():
    return json.loads((SERVER / "grafana/dashboards/model-server.json").read_text())["panels"]


def expressions():
    """Every expression of a panel or a rule, by where it stands."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels()
        for target in panel["targets"]
    }
    groups = yaml.safe_load((SERVER / "prometheus/rules.yml").read_text())["groups"]
    return found | {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


EXPRESSIONS = expressions()
METRIC = r"\b(bincount_\w+|up)\b"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """A server that refused, failed and answered requests of two versions: its address and its samples."""
    settings = make_settings(tmp_path_factory.mktemp("monitored"))
    first, _ = register_version(settings, seed=1)
    second, _ = register_version(settings, seed=2)
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    with serving(settings, BINCOUNT_SERVING_TOKEN=TOKEN) as (url, _):
        wait_until(lambda: get(url, "/ping")[0] == 200)
        with pytest.raises(Exception, match="a model must be loaded"):
            count_bins(url, PHOTOS[:1], token=TOKEN)
        for version in (first, second):
            name(settings, version)
            wait_until(lambda version=version: json.loads(get(url, "/model", **authorized)[1])["version"] == version)
            count_bins(url, PHOTOS, token=TOKEN)
        with pytest.raises(Exception, match="token"):
            count_bins(url, PHOTOS[:1], token="another")
        text = get(url, "/metrics", **authorized)[1].decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        yield url, samples


def labels_of(samples):
    """The values of each label, by metric."""
    found = {}
    for sample in samples:
        labels = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return found


def unfed(expression, labels):
    """What an expression reads that no sample has: metrics, labels, values of labels."""
    metrics = re.findall(METRIC, expression)
    wrong = [metric for metric in metrics if metric not in labels]
    for metric, matchers in re.findall(METRIC + r"\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            pattern = value if operator == "=~" else re.escape(value)
            if not any(re.fullmatch(pattern, each) for each in labels.get(metric, {}).get(label, ())):
                wrong.append(f"{metric}{{{label}{operator}{value}}}")
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        known = set().union(*(labels.get(metric, {}) for metric in metrics))
        wrong += [label for label in re.split(r", *", group) if label not in known | {"instance"}]
    return wrong


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_the_server_has_what_an_expression_reads(scraped, where):
    assert re.findall(METRIC, EXPRESSIONS[where])
    assert unfed(EXPRESSIONS[where], labels_of(scraped[1]) | OF_PROMETHEUS) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(bincount_request_total[5m])", ["bincount_request_total"]),
        ('bincount_requests_total{code="200"}', ["bincount_requests_total{code=200}"]),
        ('bincount_requests_total{status=~"3.."}', ["bincount_requests_total{status=~3..}"]),
        ("sum by (model) (bincount_predictions_total)", ["model"]),
    ],
)
def test_an_expression_that_reads_nothing_is_noticed(scraped, expression, wrong):
    assert unfed(expression, labels_of(scraped[1])) == wrong


def test_legends_name_labels(scraped):
    labels = labels_of(scraped[1])
    for panel in panels():
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert all(named <= set(labels[metric]) for metric in re.findall(METRIC, target["expr"])), panel["title"]


def test_every_metric_of_the_server_is_shown(scraped):
    shown = set(re.findall(METRIC, " ".join(EXPRESSIONS.values())))
    families = {re.sub(r"_(bucket|sum|count)$", "", sample.name) for sample in scraped[1]}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown - set(OF_PROMETHEUS)}


def test_every_panel_says_what_it_shows_from_the_provisioned_source():
    source = yaml.safe_load((SERVER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}


@needs_prometheus
@pytest.mark.parametrize("command", [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]])
def test_the_rules_are_valid_and_fire_when_they_should(command):
    done = subprocess.run(
        [TOOLS["promtool"], *command], cwd=SERVER / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_real_prometheus_answers_every_panel(scraped, tmp_path):
    """With our configuration but for addresses and the interval; each panel has a value, and no expression fails."""
    url, _ = scraped
    config = yaml.safe_load((SERVER / "prometheus/prometheus.yml").read_text())
    (tmp_path / "token").write_text(TOKEN)
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(SERVER / "prometheus/rules.yml")]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    job["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    asked = f"http://127.0.0.1:{free_ports(1)[0]}"
    command = [TOOLS["prometheus"], f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={asked.removeprefix('http://')}"], stdout=log, stderr=log
        )
    try:

        def result_of(expression):
            query = urllib.parse.urlencode({"query": expression})
            status, answer = get(asked, f"/api/v1/query?{query}")
            assert status == 200, answer
            return json.loads(answer)["data"]["result"]

        wait_until(lambda: get(asked, "/-/ready")[0] == 200)
        wait_until(lambda: result_of("count_over_time(bincount_swaps_total[1m]) >= 2"))
        for _ in range(3):
            count_bins(url, PHOTOS, token=TOKEN)
            time.sleep(1.2)
        values = {where: result_of(expression) for where, expression in EXPRESSIONS.items()}
    finally:
        process.terminate()
        process.wait(30)
    shown = {f"{panel['title']} {target['refId']}" for panel in panels() for target in panel["targets"]}
    assert [where for where in shown if not values[where]] == []
    assert [alert for alert in values.keys() - shown if values[alert]] == []
