"""A CSV of made-up customers, with the columns of the provider's document, to try things with."""

import csv
import io

from service.sandbox.dice import dice

COLUMNS = ("customer_phone", "customer_name", "loan_id", "due_amount")
_LOWEST_MOBILE, _HIGHEST_MOBILE = 6_000_000_000, 9_999_999_999
_LOWEST_LOAN, _HIGHEST_LOAN = 10_000, 99_999
_FIRST_NAMES = """
    Aarav Aditi Akash Amit Ananya Anil Anita Arjun Bhavna Deepak Divya Farhan Gaurav Geeta Harish Imran Isha Kavita
    Kiran Lakshmi Manoj Meera Mohan Nandini Naveen Neha Nikhil Pooja Pradeep Priya Rahul Rajesh Ravi Rekha Rohan
    Sameer Sanjay Shalini Sneha Sunil Suresh Swati Tanvi Uma Varun Vijay Vikram Yasmin
""".split()  # noqa: SIM905 - names read better as words than as a list of 40 lines
_LAST_NAMES = """
    Agarwal Bose Chauhan Das Desai Dutta Fernandes Ghosh Gupta Iyer Jain Joshi Kapoor Khan Kulkarni Kumar Mehta
    Menon Mishra Mukherjee Nair Naidu Pandey Patel Patil Pillai Rao Reddy Saxena Shah Sharma Shetty Singh Sinha
    Subramanian Thomas Tiwari Varma Verma Yadav
""".split()  # noqa: SIM905 - names read better as words than as a list of 40 lines


def sample_contacts(count: int, seed: int) -> str:
    """CSV text of ``count`` contacts with unique Indian mobile numbers in E.164; the same seed gives the same text."""
    chance = dice(seed, "sample")
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in chance.sample(range(_LOWEST_MOBILE, _HIGHEST_MOBILE + 1), count):
        name = f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"
        loan = f"LN-{chance.randint(_LOWEST_LOAN, _HIGHEST_LOAN)}"
        amount = max(500, round(chance.lognormvariate(9.8, 0.7), -2))
        writer.writerow((f"+91{number}", name, loan, f"{amount:.0f}"))
    return target.getvalue()
