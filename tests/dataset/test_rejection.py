import csv
import io

from bincount.dataset.rejection import SIBLING, Rejection, count_reasons, rejected_csv

REJECTED = [
    Rejection("00001", "photo is empty", "bin-images/00001.jpg: 0 bytes"),
    Rejection("523", "metadata is no JSON", 'got b\'{"a",\n\' "quoted"'),
    Rejection("00002", "photo is empty"),
    Rejection("00020", SIBLING),
]


def test_reasons_are_counted_the_most_frequent_first():
    assert next(iter(count_reasons(REJECTED).items())) == ("photo is empty", 2)
    assert [one.is_fault for one in REJECTED] == [True, True, True, False]


def test_the_table_reads_back():
    rows = list(csv.DictReader(io.StringIO(rejected_csv(REJECTED))))
    assert [Rejection(**row) for row in rows] == REJECTED
